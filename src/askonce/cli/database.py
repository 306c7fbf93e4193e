"""Reading a database of answers as `langchain_community`'s SQLiteCache wrote it."""

import contextlib
import functools
import sqlite3
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Self

from askonce.chat import Question
from askonce.cli.migration import Item, Problem, Unreadable
from askonce.errors import StoreError
from askonce.integrations.langchain import messages
from askonce.integrations.langchain.legacy_sqlite import read_rows
from askonce.integrations.langchain.prompts import Unidentified, identify

_BUSY_SECONDS = 30.0
_AT_ONCE = 300
_HAS_TABLE = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'full_llm_cache'"
_COUNT = "SELECT count(*) FROM (SELECT DISTINCT prompt, llm FROM full_llm_cache)"
_FIRST_ROWS = """
SELECT rowid, prompt, llm FROM full_llm_cache AS one
WHERE rowid > ? AND NOT EXISTS (
    SELECT 1 FROM full_llm_cache AS other
    WHERE other.prompt = one.prompt AND other.llm = one.llm AND other.idx < one.idx
)
ORDER BY rowid LIMIT ?
"""
_RESPONSES = """
SELECT response FROM full_llm_cache
WHERE (prompt, llm) = (SELECT prompt, llm FROM full_llm_cache WHERE rowid = ?)
ORDER BY idx
"""


class AnswerDatabase:
    """Offer the answers in the database at `path`, each with the question it answers.

    No statement outlives a batch, so that programs that write to the database are not held up.
    """

    def __init__(self, path: Path, namespace: str) -> None:
        self._path = path
        self._namespace = namespace
        self._created = path.stat().st_mtime
        self._connection = _connect(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def has_answers(self) -> bool:
        """Tell whether there is a table of answers, if perhaps an empty one."""
        return bool(self._rows(_HAS_TABLE))

    def count(self) -> int:
        ((count,),) = self._rows(_COUNT)
        return int(str(count))

    def items(self) -> Iterator[Item | Problem]:
        last: object = -(2**63)
        while page := self._rows(_FIRST_ROWS, (last, _AT_ONCE)):
            for row, prompt, llm_string in page:
                yield self._item(row, prompt, llm_string)
            last = page[-1][0]

    def _item(self, row: object, prompt: object, llm_string: object) -> Item | Problem:
        origin = f"{self._path}, row {row}"
        if not isinstance(prompt, str) or not isinstance(llm_string, str):
            return Problem(origin, "its prompt or its llm is no text")
        question = identify(prompt, llm_string, self._namespace)
        if isinstance(question, Unidentified):
            return Problem(origin, question.reason)
        return Item(origin, question.key, functools.partial(self._load, row, question))

    def _load(self, row: object, question: Question) -> bytes:
        generations = read_rows([response for (response,) in self._rows(_RESPONSES, (row,))])
        if generations is None:
            raise Unreadable("its response is no answer that LangChain wrote, or not all of it")
        try:
            payload = messages.encode(generations)
        except messages.Refused as error:
            raise Unreadable(str(error)) from error
        meta = {"model": question.model, "tokens": messages.tokens_of(generations)}
        return question.pack(payload, meta, now=self._created, ttl=None)[0]

    def _rows(self, statement: str, values: Sequence[object] = ()) -> list[tuple[object, ...]]:
        with _failures(self._path):
            return self._connection.execute(statement, values).fetchall()


def _connect(path: Path) -> sqlite3.Connection:
    with _failures(path):
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_SECONDS
        )
    connection.text_factory = _text
    return connection


def _text(content: bytes) -> str | bytes:
    """Read text; what is no UTF-8 must not keep the other rows from being read."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content


@contextlib.contextmanager
def _failures(path: Path) -> Generator[None]:
    try:
        yield
    except sqlite3.Error as error:
        hint = ""
        if path.with_name(f"{path.name}-journal").exists():
            hint = (
                "; a write to it was cut off: let a program that may write to it open it once, "
                "or migrate a copy of it and of the file beside it"
            )
        raise StoreError(f"cannot read {path}: {error}{hint}") from error
