"""The stores of askonce seen as byte stores of LangChain."""

import contextlib
import os
import posixpath
import re
import sys
import time
import urllib.parse
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

from langchain_core.stores import ByteStore, InvalidKeyException

from askonce.core.store import Store
from askonce.errors import InputTypeError
from askonce.stores import open_store
from askonce.stores.file import WORK_FOLDER, FileStore, quote_segment
from askonce.stores.memory import MemoryStore
from askonce.stores.sqlite import SQLiteStore


class StoreByteStore(ByteStore):
    """Be a LangChain byte store over any store, given as a Store or a URL.

    Raises StoreError if the store fails, InputTypeError for keys that are not strings and values
    that are not bytes.
    """

    def __init__(self, store: Store | str) -> None:
        self.store = open_store(store)

    def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        return self.store.read(self._checked(keys))

    async def amget(self, keys: Sequence[str]) -> list[bytes | None]:
        return await self.store.aread(self._checked(keys))

    def mset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        self.store.write(self._entries(key_value_pairs))

    async def amset(self, key_value_pairs: Sequence[tuple[str, bytes]]) -> None:
        await self.store.awrite(self._entries(key_value_pairs))

    def mdelete(self, keys: Sequence[str]) -> None:
        self.store.delete(self._checked(keys))

    async def amdelete(self, keys: Sequence[str]) -> None:
        await self.store.adelete(self._checked(keys))

    def yield_keys(self, *, prefix: str | None = None) -> Iterator[str]:
        yield from self.store.keys(self._checked_prefix(prefix))

    async def ayield_keys(  # pyright: ignore[reportIncompatibleMethodOverride]  # a generator, as there
        self, *, prefix: str | None = None
    ) -> AsyncIterator[str]:
        async for key in self.store.akeys(self._checked_prefix(prefix)):
            yield key

    def _entries(self, pairs: Sequence[tuple[str, bytes]]) -> dict[str, bytes]:
        keys = self._checked([key for key, _ in pairs])
        for key, value in pairs:
            if not isinstance(value, bytes | bytearray | memoryview):
                raise InputTypeError(
                    f"the value of {key!r} is a {type(value).__qualname__}; "
                    "a byte store keeps bytes only"
                )
        return {key: bytes(value) for key, (_, value) in zip(keys, pairs, strict=True)}

    def _checked(self, keys: Sequence[str]) -> list[str]:
        for key in keys:
            if not isinstance(key, str) or not key:
                raise InputTypeError(f"{key!r} is not a key; keys are strings of some length")
        return list(keys)

    def _checked_prefix(self, prefix: str | None) -> str:
        return prefix or ""


class InMemoryByteStore(StoreByteStore):
    """Keep values in this process's memory.

    With `max_bytes`, give up the least recently used first; without, keep everything.
    """

    def __init__(self, max_bytes: int | None = None) -> None:
        super().__init__(MemoryStore(sys.maxsize if max_bytes is None else max_bytes))


class SQLiteByteStore(StoreByteStore):
    """Keep values in an SQLite file, shared by any number of threads and processes."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(SQLiteStore(path))


class LocalFileStore(StoreByteStore):
    """Keep each value in a file of its own below `root_path`, in LangChain's layout.

    Files are replaced as a whole. `chmod_file` and `chmod_dir` set the mode of new files and
    folders, whatever the umask; without them the umask decides. `update_atime` makes each read
    count as an access, for clearing out by age. A key may hold any printable ASCII but the
    backslash; what a file name cannot hold is percent-encoded. Raises InvalidKeyException for
    other keys, absolute ones, and those that lead outside.
    """

    def __init__(
        self,
        root_path: str | os.PathLike[str],
        *,
        chmod_file: int | None = None,
        chmod_dir: int | None = None,
        update_atime: bool = False,
    ) -> None:
        self.root_path = Path(root_path).absolute()
        self.chmod_file = chmod_file
        self.chmod_dir = chmod_dir
        self.update_atime = update_atime
        self._files = _Files(self.root_path, chmod_file, chmod_dir, update_atime=update_atime)
        super().__init__(self._files)

    def _get_full_path(self, key: str) -> Path:
        return self._files.path_of(*self._checked([key]))

    def _checked(self, keys: Sequence[str]) -> list[str]:
        keys = super()._checked(keys)
        for key in keys:
            _check(key)
        return [posixpath.normpath(key) if _UNTIDY.search(key) else key for key in keys]

    def _checked_prefix(self, prefix: str | None) -> str:
        if prefix:
            _check(prefix)
        return prefix or ""


_ALLOWED = re.compile(r"[ -\[\]-~]+")
_UNTIDY = re.compile(r"(?:^|/)(?:\.?/|\.?\Z)")
"""Segments that are empty or a dot: LangChain, too, takes the path without them."""


def _check(key: str) -> None:
    if not _ALLOWED.fullmatch(key):
        raise InvalidKeyException(f"the key {key!r} has characters other than printable ASCII")
    if key.startswith("/") or ".." in key.split("/") or not key.strip("./"):
        raise InvalidKeyException(f"the key {key!r} leads outside of the store's folder")


_PATH = re.compile(
    rf"(?!{re.escape(WORK_FOLDER)}(?:/|\Z))"
    r"(?:(?!\.\.?(?:/|\Z))[a-zA-Z0-9_.\-]{1,255}(?:/(?!\Z)|\Z))+"
)
"""Keys that are a path as they stand."""
_NAME = re.compile(r"(?!\.\.?\Z)[a-zA-Z0-9_.\-]{1,255}")


class _Files(FileStore):
    """Keep files under the very names that LangChain gives them, wherever it has one."""

    def __init__(
        self, root: Path, chmod_file: int | None, chmod_dir: int | None, *, update_atime: bool
    ) -> None:
        super().__init__(root, folder_mode=chmod_dir, file_mode=chmod_file)
        self._update_atime = update_atime

    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        values = super().read(keys)
        if self._update_atime:
            for key, value in zip(keys, values, strict=True):
                if value is not None:
                    _touch(self._path_of(key))
        return values

    def _path_of(self, key: str) -> str:
        if _PATH.fullmatch(key):
            return self._root + key.replace("/", os.sep)
        first, *others = map(_name, key.split("/"))
        if first == WORK_FOLDER:
            first = quote_segment(first)
        return self._root + f"{os.sep}".join((first, *others))


def _name(segment: str) -> str:
    if _NAME.fullmatch(segment):
        return segment
    return quote_segment(urllib.parse.quote(segment, safe="", errors="surrogatepass"))


def _touch(path: str) -> None:
    """Set the access time alone; a file that is gone or another user's stays as it is."""
    with contextlib.suppress(OSError):
        os.utime(path, ns=(time.time_ns(), Path(path).stat().st_mtime_ns))
