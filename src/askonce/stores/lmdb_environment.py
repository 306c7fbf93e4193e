"""LMDB environments: one for each path in a process, closed before a fork, written anew alone."""

import contextlib
import os
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar

import lmdb

from askonce.core import fork
from askonce.errors import StoreError
from askonce.stores.lmdb_usage import TREE

T = TypeVar("T")

_SPARSE_MAP = 1024**4
_SMALL_MAP = 1024**3
_MAX_READERS = 2048
_DATA = "data.mdb"
_COPY = ".compact"


class Environment:
    """Be the one environment that a process may have open for a path.

    It must not cross a fork: it is closed before, and opened again when next used.
    """

    def __init__(self, path: Path, map_size: int | None) -> None:
        self.path = path
        self.users = 0
        self._map_size = map_size
        self._opened: Any = _open(path, map_size)
        self._usage: Any = None
        self._guard: IO[bytes] | None = None
        self._opening = threading.Lock()
        self.room = fork.Room(self._close)

    def use(self, work: Callable[[Any], T]) -> T:
        with self.room:
            return work(self._opened or self._open_again())

    def _open_again(self) -> Any:
        with self._opening:
            if not self.users:
                raise StoreError(f"{self.path}: the store is closed")
            if self._opened is None:
                self._opened = _open(self.path, self._map_size)
            return self._opened

    def usage(self) -> Any:
        """Give the tree of what was used when, within `use` and no transaction; it may be new."""
        with self._opening:
            if self._usage is None:
                self._usage = self._opened.open_db(TREE)
            return self._usage

    def compact(self) -> None:
        """Write the file anew without gaps. Raises StoreError if another process has it open."""
        self.room.acquire()
        try:
            guard = _lock_out_others(self.path)
            try:
                _compact(self.path)
                # Opened while others are locked out, LMDB forgets what it shared about the old
                # file. The guard stays: closing it would let go of LMDB's own lock too.
                self._opened = _open(self.path, self._map_size)
                self._guard = guard
            finally:
                if self._opened is None and guard is not None:
                    guard.close()
        finally:
            self.room.release()

    def _close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = self._usage = None
        if self._guard is not None:
            self._guard.close()
            self._guard = None


_environments: dict[Path, Environment] = {}
_lock = threading.Lock()
fork.hold_still(_lock)


def share(path: Path, map_size: int | None) -> Environment:
    """Give the environment of a path, opened if nobody uses it yet."""
    real = path.resolve()
    with _lock:
        environment = _environments.get(real)
        if environment is None:
            environment = _environments[real] = Environment(real, map_size)
        environment.users += 1
        return environment


def release(environment: Environment) -> None:
    """Stop using an environment; nobody's is closed."""
    with _lock:
        environment.users -= 1
        if not environment.users:
            _environments.pop(environment.path, None)
            environment.room.acquire()
            environment.room.release()


def _open(path: Path, map_size: int | None) -> Any:
    size = map_size or (_SMALL_MAP if os.name == "nt" else _SPARSE_MAP)
    while True:
        try:
            environment = lmdb.open(
                str(path),
                map_size=size,
                mode=0o600,
                metasync=False,
                max_readers=_MAX_READERS,
                readahead=False,
                max_dbs=1,
            )
        except lmdb.Error as error:
            if isinstance(error, lmdb.MemoryError) and not map_size and size > _SMALL_MAP:
                size //= 4
                continue
            raise StoreError(f"cannot open the LMDB store {path}: {explain(error)}") from error
        environment.reader_check()
        return environment


def _lock_out_others(path: Path) -> IO[bytes] | None:
    """Take the lock that every process with the environment open shares.

    Where there are no such locks (Windows) a file that is open cannot be replaced anyway.
    """
    if sys.platform == "win32":
        return None
    import fcntl  # noqa: PLC0415  there is none on Windows

    lock = (path / "lock.mdb").open("r+b")
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0)
    except BlockingIOError:
        lock.close()
        raise StoreError(
            f"{path} is open in another process; close it there, then vacuum again"
        ) from None
    except BaseException:
        lock.close()
        raise
    return lock


def _compact(path: Path) -> None:
    copy = path / _COPY
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir(mode=0o700)
    try:
        with contextlib.closing(
            lmdb.open(str(path), readonly=True, lock=False, max_dbs=1)
        ) as environment:
            environment.copy(str(copy), compact=True)
        with (copy / _DATA).open("r+b") as file:
            os.fsync(file.fileno())
        (copy / _DATA).chmod((path / _DATA).stat().st_mode & 0o7777)
        (copy / _DATA).replace(path / _DATA)
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def explain(error: Exception) -> str:
    """Say what to do about an error of LMDB."""
    if isinstance(error, lmdb.MapFullError):
        return "the store is full; open it with a larger map_size, like lmdb:///dir?map_size=2TB"
    if isinstance(error, lmdb.InvalidError | lmdb.VersionMismatchError | lmdb.CorruptedError):
        return f"{error}; the folder does not hold an LMDB environment this version can read"
    return str(error)
