"""Reading a folder of embeddings as LangChain's `LocalFileStore` wrote it."""

import functools
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from askonce.cli.migration import Item, Problem, Unreadable
from askonce.core import entry, vectors
from askonce.errors import AnswerError
from askonce.stores.file import WORK_FOLDER, key_of

_UNBOUND = np.zeros(1, np.uint64)
"""LangChain's keys do not tell the text, so an entry from there answers whoever has its key."""


class VectorFolder:
    """Offer the files below `root`, each a JSON list of numbers, under the keys they have."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def count(self) -> int:
        return sum(1 for _ in _files_below(str(self._root)))

    def items(self) -> Iterator[Item | Problem]:
        start = len(str(self._root)) + 1
        for path, is_file in _files_below(str(self._root)):
            if is_file:
                yield Item(path, key_of(path[start:]), functools.partial(_load, path))
            else:
                yield Problem(
                    path, "it is no file, but perhaps a link to a folder: migrate that by itself"
                )


def _files_below(folder: str) -> Iterator[tuple[str, bool]]:
    """Give every path that is no folder, and whether it is a file."""
    with os.scandir(folder) as found:
        for one in found:
            if one.is_dir(follow_symlinks=False):
                if one.name != WORK_FOLDER:
                    yield from _files_below(one.path)
            else:
                yield one.path, one.is_file()


def _load(path: str) -> bytes:
    try:
        file = Path(path)
        content = file.read_bytes()
        created = file.stat().st_mtime
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from error
    if content.startswith(entry.MAGIC):
        return _ours(content)
    if not content:
        raise Unreadable("the file is empty: its writer was killed")
    try:
        numbers = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"it is not JSON, or not all of it: {error}") from error
    return _packed(numbers, created)


def _ours(content: bytes) -> bytes:
    """Take over an entry that askonce itself added to the folder."""
    if entry.unpack(content) is None:
        raise Unreadable("it is an entry of askonce, but damaged")
    return content


def _packed(numbers: object, created: float) -> bytes:
    if not isinstance(numbers, list):
        raise Unreadable("it is JSON, but no list of numbers")
    try:
        rows = vectors.rows_of([numbers], 1)
    except (AnswerError, OverflowError) as error:
        raise Unreadable("it is JSON, but no list of finite numbers") from error
    return vectors.pack(rows, _UNBOUND, created=created, expires=entry.NEVER)[0]
