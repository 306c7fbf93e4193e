"""A store of one file a key in any filesystem of fsspec, in the layout of `file:///folder`."""

import contextlib
import itertools
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any

from askonce.core import entry
from askonce.core.entry import NEVER
from askonce.core.store import Store
from askonce.errors import InputError, StoreError
from askonce.stores.file import WORK_FOLDER, file_name, key_of

_WHOLE = {"memory", "s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl"}
"""Protocols whose files are replaced as a whole; in all others a new file is moved there."""

_MISSING = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
_AT_ONCE = 500


class FilesystemStore(Store):
    """Keep each entry in a file of its own below the folder `path` of a filesystem.

    The filesystem stays its maker's to close. It has no leases, so two processes may ask for the
    same at the same moment. Raises InputError for a filesystem that only works asynchronously.
    """

    def __init__(self, filesystem: Any, path: str) -> None:
        if getattr(filesystem, "asynchronous", False):
            raise InputError("give a filesystem that was made without asynchronous=True")
        self.filesystem = filesystem
        self.path: str = self._stripped(path)
        protocol = filesystem.protocol
        self._is_whole = bool(_WHOLE & {*([protocol] if isinstance(protocol, str) else protocol)})
        self._made: set[str] = set()

    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        paths = [self._path_of(key) for key in keys]
        if not paths:
            return []
        with self._failures("read"):
            found: dict[str, object] = self.filesystem.cat(sorted(set(paths)), on_error="return")
            return [_content(found.get(path)) for path in paths]

    def write(self, entries: Mapping[str, bytes], *, expires: float = NEVER) -> None:
        values = {self._path_of(key): bytes(value) for key, value in entries.items()}
        with self._failures("write"):
            if self._is_whole:
                self.filesystem.pipe(values)
                return
            for path, value in values.items():
                try:
                    self._replace(path, value)
                except FileNotFoundError:
                    self._made.clear()  # somebody removed a folder
                    self._replace(path, value)

    def delete(self, keys: Sequence[str]) -> None:
        with self._failures("delete"):
            for key in keys:
                with contextlib.suppress(*_MISSING):
                    self.filesystem.rm_file(self._path_of(key))

    def keys(self, prefix: str = "") -> Iterator[str]:
        for key, _ in self._files(prefix):
            yield key

    def size(self) -> int:
        return sum(size for _, size in self._files())

    def prune(self, now: float) -> int:
        """Delete what may be reclaimed; reads no more than the start of each file."""
        count = 0
        keys = self.keys()
        while batch := list(itertools.islice(keys, _AT_ONCE)):
            paths = [self._path_of(key) for key in batch]
            with self._failures("read"):
                starts: list[object] = self.filesystem.cat_ranges(
                    paths, 0, entry.HEADER_LENGTH, on_error="return"
                )
            expired = [
                key
                for key, start in zip(batch, starts, strict=True)
                if isinstance(start, bytes) and entry.has_expired(start, now=now)
            ]
            self.delete(expired)
            count += len(expired)
        return count

    def close(self) -> None:
        """Do nothing: the filesystem belongs to whoever made it."""

    def _files(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Give the keys that start with a prefix, and the sizes of their files."""
        folder = prefix.rpartition("/")[0]
        with self._failures("list"):
            self.filesystem.invalidate_cache()
            found: dict[str, dict[str, Any]] = self.filesystem.find(
                self._path_of(folder) if folder else self.path, detail=True
            )
        start = f"{self.path}/" if self.path else self._stripped("x")[:-1]
        for path, info in found.items():
            name = path.removeprefix(start)
            if name.split("/", 1)[0] == WORK_FOLDER:
                continue
            key = key_of(name.replace("/", os.sep))
            # A file whose name we would have written differently is not ours: leave it alone.
            if key.startswith(prefix) and self._path_of(key) == path:
                yield key, int(info.get("size") or 0)

    def _path_of(self, key: str) -> str:
        return self._below(file_name(key).replace(os.sep, "/"))

    def _below(self, name: str) -> str:
        return self._stripped(f"{self.path}/{name}" if self.path else name)

    def _stripped(self, path: str) -> str:
        """Write a path as the filesystem itself does, without its protocol."""
        stripped: str = self.filesystem._strip_protocol(path)  # noqa: SLF001  no public way
        return stripped

    def _replace(self, path: str, value: bytes) -> None:
        """Write a file elsewhere and move it to its place, so that nobody sees half of it."""
        temporary = self._below(f"{WORK_FOLDER}/{os.urandom(16).hex()}")
        for folder in (temporary.rpartition("/")[0], path.rpartition("/")[0]):
            if folder and folder not in self._made:
                self.filesystem.makedirs(folder, exist_ok=True)
                self._made.add(folder)
        try:
            self.filesystem.pipe_file(temporary, value)
            self.filesystem.mv(temporary, path)
        except BaseException:
            with contextlib.suppress(Exception):
                self.filesystem.rm_file(temporary)
            raise

    @contextlib.contextmanager
    def _failures(self, verb: str) -> Generator[None]:
        try:
            yield
        except StoreError:
            raise
        except Exception as error:
            raise StoreError(
                f"cannot {verb} in {self.path!r} of {type(self.filesystem).__qualname__}: "
                f"{type(error).__name__}: {error}"
            ) from error


def _content(found: object) -> bytes | None:
    if isinstance(found, Exception) and not isinstance(found, _MISSING):
        raise found
    return found if isinstance(found, bytes) else None
