"""A store of one file a key, in the layout of LangChain's `LocalFileStore`.

A key is a path below the root. What a file name cannot hold is percent-encoded, and a segment
too long for a file name goes on in a folder: a folder's name that ends in a bare `%` is joined
with what is inside it.
"""

import contextlib
import functools
import os
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from askonce.core import entry
from askonce.core.entry import NEVER
from askonce.core.finding import Finding
from askonce.core.lease import Leases
from askonce.core.store import Store
from askonce.errors import StoreError
from askonce.stores import Location
from askonce.stores.diagnosis import disk_of
from askonce.stores.file_usage import Usage, blocks, size_of
from askonce.stores.sqlite_leases import SQLiteLeases
from askonce.stores.usage import check_limit, fitting, refuse_the_rest

WORK_FOLDER = ".askonce"
"""Below the root; holds files that are being written. No key leads into it."""

_MAX_NAME = 200
_ABANDONED_AFTER = 3600.0
_ATTEMPTS = 3


class FileStore(Store):
    """Keep each entry in a file of its own below `root`.

    Files are replaced as a whole, so a reader never sees half of one, and a killed process leaves
    at most a file in the work folder. Folders and files are made for the owner only, unless
    `folder_mode` and `file_mode` say otherwise; None leaves the mode to the umask. Above
    `max_bytes` of disk the least recently used entries are given up.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        folder_mode: int | None = 0o700,
        file_mode: int | None = 0o600,
        max_bytes: int | None = None,
    ) -> None:
        self.max_bytes = check_limit(max_bytes)
        self.root = Path(root).absolute()
        self._root = str(self.root) + os.sep
        self._folder_mode = folder_mode
        self._file_mode = file_mode
        self._work = self.root / WORK_FOLDER
        if self.root.exists() and not self.root.is_dir():
            raise StoreError(f"{self.root} is a file; a file store needs a folder")
        self._usage = self._limit(max_bytes) if max_bytes is not None else None
        self._sweep()

    @classmethod
    def open(cls, location: Location) -> "FileStore":
        """Open `file:///folder`, whose one option is `max_bytes`."""
        location.only_options("max_bytes")
        return cls(location.file_path(), max_bytes=location.limit_option())

    def path_of(self, key: str) -> Path:
        """Give the path of a key's file, whether it is there or not."""
        return Path(self._path_of(key))

    @functools.cached_property
    def leases(self) -> Leases:
        return SQLiteLeases(self._work / "leases" / "leases.db")

    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        values: list[bytes | None] = []
        for key in keys:
            try:
                descriptor = os.open(self._path_of(key), os.O_RDONLY | getattr(os, "O_BINARY", 0))
            except (FileNotFoundError, NotADirectoryError):
                values.append(None)
                continue
            except OSError as error:
                raise self._failure("read", error) from error
            try:
                values.append(_read_all(descriptor))
                if self._usage is not None:
                    self._usage.touch(descriptor, self._path_of(key))
            except IsADirectoryError:
                values.append(None)
            except OSError as error:
                raise self._failure("read", error) from error
            finally:
                os.close(descriptor)
        return values

    def write(self, entries: Mapping[str, bytes], *, expires: float = NEVER) -> None:
        usage = self._usage
        fit = entries if usage is None else fitting(entries, usage.max_bytes)
        for key, value in fit.items():
            try:
                self._write_one(self._path_of(key), value)
            except OSError as error:
                raise self._failure("write", error) from error
        if usage is not None:
            if usage.is_above(sum(map(blocks, map(len, fit.values())))):
                usage.evict({self._path_of(key) for key in fit})
            refuse_the_rest(entries, fit, usage.max_bytes)

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            try:
                os.unlink(self._path_of(key))
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                continue
            except OSError as error:
                if not os.path.isdir(self._path_of(key)):
                    raise self._failure("delete", error) from error

    def keys(self, prefix: str = "") -> Iterator[str]:
        folder, _, _ = prefix.rpartition("/")
        start = self._path_of(folder) if folder else str(self.root)
        for key, _ in self._files(start):
            if key.startswith(prefix):
                yield key

    def size(self) -> int:
        """Tell how much disk the files of entries take."""
        size = 0
        for _, path in self._files(str(self.root)):
            with contextlib.suppress(FileNotFoundError):
                size += size_of(os.stat(path))
        return size

    def prune(self, now: float) -> int:
        """Delete what may be reclaimed; reads no more than the start of each file."""
        count = 0
        for _, path in self._files(str(self.root)):
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                if entry.has_expired(_read_start(path), now=now):
                    os.unlink(path)
                    count += 1
        return count

    def evict(self) -> int:
        return 0 if self._usage is None else self._usage.evict()

    def vacuum(self) -> None:
        """Remove empty folders and what killed writers left behind."""
        self._sweep()
        for folder, _, _ in os.walk(self.root, topdown=False):
            if folder != str(self.root) and not folder.startswith(str(self._work)):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)

    def diagnose(self) -> list[Finding]:
        return disk_of(self.root, needs_locks=False)

    def close(self) -> None:
        """Let go of the leases and the total; no other file stays open."""
        if self._usage is not None:
            self._usage.close()
        self._close_leases()

    def _limit(self, max_bytes: int) -> Usage:
        def paths() -> Iterator[str]:
            return (path for _, path in self._files(str(self.root)))

        return Usage(self._work / "usage" / "usage.db", max_bytes, paths, self.leases)

    def _files(self, start: str) -> Iterator[tuple[str, str]]:
        """Give the keys below a folder and their paths."""
        for path in _files_below(start):
            name = path[len(self._root) :]
            if name.split(os.sep, 1)[0] == WORK_FOLDER:
                continue
            key = key_of(name)
            # A file whose name we would have written differently is not ours: leave it alone.
            if self._path_of(key) == path:
                yield key, path

    def _path_of(self, key: str) -> str:
        return self._root + file_name(key)

    def _write_one(self, path: str, value: bytes) -> None:
        temporary = f"{self._work}{os.sep}{os.urandom(16).hex()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        mode = 0o666 if self._file_mode is None else 0o600
        try:
            descriptor = os.open(temporary, flags, mode)
        except FileNotFoundError:
            self._make_folder(str(self._work))
            descriptor = os.open(temporary, flags, mode)
        try:
            try:
                _write_all(descriptor, value)
            finally:
                os.close(descriptor)
            if self._file_mode not in (None, 0o600):
                os.chmod(temporary, self._file_mode)
            for attempt in range(_ATTEMPTS):
                try:
                    os.replace(temporary, path)
                    break
                except FileNotFoundError:
                    # There is no folder yet, or another process is removing empty ones.
                    if attempt == _ATTEMPTS - 1:
                        raise
                    with contextlib.suppress(FileNotFoundError):
                        self._make_folder(os.path.dirname(path))
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise

    def _make_folder(self, path: str) -> None:
        """Make a folder and its parents with their mode, whatever the umask."""
        if os.path.isdir(path):
            return
        self._make_folder(os.path.dirname(path))
        with contextlib.suppress(FileExistsError):
            os.mkdir(path)
            if self._folder_mode is not None:
                os.chmod(path, self._folder_mode)
        if not os.path.isdir(path):
            raise NotADirectoryError(f"{path} is a file, but a key leads below it")

    def _sweep(self) -> None:
        """Remove what killed writers left behind."""
        before = time.time() - _ABANDONED_AFTER
        with contextlib.suppress(OSError), os.scandir(self._work) as found:
            for file in found:
                with contextlib.suppress(OSError):
                    if file.is_file() and file.stat().st_mtime < before:
                        os.unlink(file.path)

    def _failure(self, verb: str, error: OSError) -> StoreError:
        return StoreError(f"cannot {verb} in the file store {self.root}: {error}")


def file_name(key: str) -> str:
    """Write a key as a path below the root."""
    quoted = urllib.parse.quote(key, safe="/", errors="surrogatepass")
    if len(quoted) <= _MAX_NAME and _is_plain(quoted):
        return quoted.replace("/", os.sep)
    return os.sep.join(map(quote_segment, quoted.split("/")))


def _is_plain(path: str) -> bool:
    return not (path.startswith((".", "/")) or "/." in path or "//" in path or path.endswith("/"))


def quote_segment(segment: str) -> str:
    """Write one percent-encoded segment as a name, or a path of names where it is too long."""
    if not segment:
        return "%2F"
    parts = [segment[start : start + _MAX_NAME] for start in range(0, len(segment), _MAX_NAME)]
    for index in range(len(parts) - 1):
        cut = parts[index].rfind("%", -2)
        if cut != -1:
            parts[index], parts[index + 1] = (
                parts[index][:cut],
                parts[index][cut:] + parts[index + 1],
            )
    return f"%{os.sep}".join(map(_without_dot, parts))


def _without_dot(name: str) -> str:
    return "%2E" + name[1:] if name.startswith(".") else name


def key_of(path: str) -> str:
    """Read back the key that a path below the root stands for."""
    segments = path.replace(f"%{os.sep}", "").split(os.sep)
    return "/".join("" if segment == "%2F" else _unquote(segment) for segment in segments)


def _unquote(segment: str) -> str:
    return urllib.parse.unquote(segment, errors="surrogatepass") if "%" in segment else segment


def _files_below(folder: str) -> Iterator[str]:
    try:
        with os.scandir(folder) as found:
            inside = sorted(found, key=lambda one: one.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    for one in inside:
        if one.is_dir():
            yield from _files_below(one.path)
        else:
            yield one.path


def _read_start(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        return os.read(descriptor, entry.HEADER_LENGTH)
    finally:
        os.close(descriptor)


def _read_all(descriptor: int) -> bytes:
    parts = [os.read(descriptor, os.fstat(descriptor).st_size + 1)]
    while parts[-1]:
        parts.append(os.read(descriptor, 1 << 20))
    return b"".join(parts)


def _write_all(descriptor: int, value: bytes) -> None:
    view = memoryview(value)
    while view:
        view = view[os.write(descriptor, view) :]
