"""The table of answers that `langchain_community`'s SQLiteCache keeps: read, never changed.

    full_llm_cache (prompt, llm, idx, response), primary key (prompt, llm, idx)

A response is LangChain's dump of one generation or, in the oldest rows, the bare text.
"""

import contextlib
import json
import sqlite3
import urllib.parse
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.outputs import Generation

from askonce.errors import StoreError
from askonce.integrations.langchain.messages import GENERATIONS, MESSAGES

_BUSY_SECONDS = 5.0
_HAS_TABLE = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'full_llm_cache'"
_ONE = "SELECT response FROM full_llm_cache WHERE prompt = ? AND llm = ? AND rowid > ? ORDER BY idx"
_LAST = "SELECT coalesce(max(rowid), 0) FROM full_llm_cache"
_ALL = "SELECT prompt, llm, response FROM full_llm_cache ORDER BY prompt, llm, idx"
_CLASSES: dict[str, type[Generation | BaseMessage]] = {
    **GENERATIONS,
    **{kind.__name__: kind for kind in MESSAGES.values()},
}


class LegacyTable:
    """Read the answers in one SQLite file. Raises StoreError if it cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def exists(self) -> bool:
        """Tell whether the file is there and holds the table."""
        return self.path.is_file() and bool(self._rows(_HAS_TABLE))

    def last(self) -> int:
        """Give the number of the last row; rows that are written later have higher ones."""
        ((last,),) = self._rows(_LAST)
        return int(last)

    def find(self, prompt: str, llm_string: str, *, after: int = 0) -> list[Generation] | None:
        """Give the answer under exactly these strings, None if there is none to be read.

        Rows up to `after` are left out.
        """
        try:
            rows = self._rows(_ONE, (prompt, llm_string, after))
        except UnicodeEncodeError:
            return None
        return read_rows([response for (response,) in rows])

    def answers(self) -> Iterator[tuple[str, str, list[Generation] | None]]:
        """Give every prompt, `llm_string` and answer; None for one that cannot be read."""
        with self._connection() as connection:
            group: list[object] = []
            last: tuple[str, str] | None = None
            for prompt, llm_string, response in connection.execute(_ALL):
                if last is not None and last != (prompt, llm_string):
                    yield *last, read_rows(group)
                    group = []
                last = (prompt, llm_string)
                group.append(response)
            if last is not None:
                yield *last, read_rows(group)

    def _rows(self, statement: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._connection() as connection:
            return connection.execute(statement, parameters).fetchall()

    @contextlib.contextmanager
    def _connection(self) -> Generator[sqlite3.Connection, None, None]:
        """Open the file for one reading: it is read on a miss, where a model is asked next."""
        url = f"file:{urllib.parse.quote(str(self.path.absolute()))}?mode=ro"
        try:
            with contextlib.closing(
                sqlite3.connect(url, uri=True, timeout=_BUSY_SECONDS)
            ) as connection:
                yield connection
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {error}") from error


def read_rows(responses: Sequence[object]) -> list[Generation] | None:
    """Read the rows of one answer, None if there are none or one of them cannot be read."""
    generations = [_read(response) for response in responses]
    found = [generation for generation in generations if generation is not None]
    return found if found and len(found) == len(generations) else None


def _read(response: object) -> Generation | None:
    """Read one row. What begins like a dump but is none is damaged, not a text."""
    if not isinstance(response, str):
        return None
    if not response.lstrip().startswith('{"lc"'):
        return Generation(text=response)
    try:
        revived = _revive(json.loads(response))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return revived if isinstance(revived, Generation) else None


def _revive(value: object) -> Any:
    """Make what a dump describes, of the known classes alone; raise ValueError for any other.

    LangChain's own `loads` would do, but prints a warning, and its list of classes changes.
    """
    match value:
        case {"__lc_escaped__": inner, **rest} if not rest:
            return inner
        case {"lc": 1, "type": "constructor", "id": [*_, str(name)], "kwargs": dict(fields)}:
            if name not in _CLASSES:
                raise ValueError(f"{name} is not a message or generation")
            return _CLASSES[name](**{field: _revive(inner) for field, inner in fields.items()})
        case {"lc": 1, "type": str(kind)}:
            raise ValueError(f"the dump holds a {kind}")
        case dict():
            return {name: _revive(inner) for name, inner in value.items()}
        case list():
            return [_revive(inner) for inner in value]
        case _:
            return value
