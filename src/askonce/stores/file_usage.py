"""The limit of a file store: one total for all processes, and the files' own access times."""

import contextlib
import functools
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from askonce.core.lease import Leases
from askonce.stores.database import Database, create, transaction
from askonce.stores.usage import LOW_WATER, patience

Files = NDArray[np.void]

_BLOCK = 4096
_TELL_AT = 512
"""A process tells of what it wrote when that is this part of the limit."""

_LEASE = "\0evict"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS askonce_usage (
    id INTEGER PRIMARY KEY CHECK (id = 1), total INTEGER NOT NULL, half_since REAL NOT NULL
)
"""
_ADD = "UPDATE askonce_usage SET total = total + ? WHERE id = 1"
_GET = "SELECT total, half_since FROM askonce_usage"
_SET = (
    "INSERT INTO askonce_usage VALUES (1, ?, ?) ON CONFLICT (id) DO UPDATE "
    "SET total = total - ? + excluded.total, half_since = excluded.half_since"
)


class Usage:
    """Keep the files that `paths` gives within `max_bytes` of disk.

    The total lives in an SQLite file at `path`. It counts what is written and is corrected by
    every look at the files themselves, which is taken when it is above the limit.
    """

    def __init__(
        self, path: Path, max_bytes: int, paths: Callable[[], Iterator[str]], leases: Leases
    ) -> None:
        self.max_bytes = max_bytes
        self._path = path
        self._paths = paths
        self._leases = leases
        self._untold = 0
        self._half_since = time.time()
        self._process = os.getpid()
        self._evicting = threading.Lock()

    def touch(self, descriptor: int, path: str) -> None:
        """Let the access time of a file that is being read be now, unless it is recent."""
        now = time.time()
        with contextlib.suppress(OSError):
            status = os.fstat(descriptor)
            if now - _used(status) / 1e9 > patience(now, self._half_since):
                os.utime(path, ns=(int(now * 1e9), status.st_mtime_ns))

    def is_above(self, written: int) -> bool:
        """Count bytes just written and tell whether something has to go."""
        self._untold += written
        if self._untold < self.max_bytes // _TELL_AT:
            return False
        told, self._untold = self._untold, 0
        found = self._database.run(functools.partial(_add, size=told))
        if found is None:
            return True
        total, self._half_since = found
        return total > self.max_bytes

    def evict(self, spared: Collection[str] = ()) -> int:
        """Delete the least recently used files, but none of these paths; tell how many.

        Does nothing while another thread or process is at it.
        """
        if self._process != os.getpid():
            # The thread that was at it before a fork stayed behind.
            self._process = os.getpid()
            self._evicting = threading.Lock()
        evicting = self._evicting
        if not evicting.acquire(blocking=False):
            return 0
        try:
            if not (granted := self._leases.claim([_LEASE])):
                return 0
            try:
                return self._evict(spared)
            finally:
                self._leases.release(granted)
        finally:
            evicting.release()

    def close(self) -> None:
        """Close the file of the total."""
        if "_database" in self.__dict__:
            self._database.close()

    @functools.cached_property
    def _database(self) -> Database:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        database = Database(self._path)
        database.run(lambda connection: create(connection, _SCHEMA, page_size=4096))
        return database

    def _evict(self, spared: Collection[str]) -> int:
        found = self._database.run(lambda connection: connection.execute(_GET).fetchone())
        before = 0 if found is None else int(found[0])
        statuses = (status for path in self._paths() if (status := _status(path)) is not None)
        files = np.fromiter(
            ((_used(status), size_of(status)) for status in statuses),
            np.dtype([("used", "i8"), ("size", "i8")]),
        )
        size = int(files["size"].sum())
        count = 0
        if size > self.max_bytes:
            count, gone = self._delete(files, size - int(self.max_bytes * LOW_WATER), spared)
            size -= gone
        half_since = float(np.median(files["used"])) / 1e9 if files.size else time.time()
        values = (size, half_since, before)
        self._database.run(lambda connection: connection.execute(_SET, values))
        self._half_since = half_since
        return count

    def _delete(self, files: Files, excess: int, spared: Collection[str]) -> tuple[int, int]:
        """Delete the oldest files, of so many bytes together; tell how many and their bytes."""
        files.sort(order="used")
        last = int(np.searchsorted(files["size"].cumsum(), excess))
        cutoff = int(files["used"][min(last, len(files) - 1)])
        as_old = excess - int(files["size"][files["used"] < cutoff].sum())
        count = gone = 0
        for path in self._paths():
            status = _status(path)
            if status is None or path in spared or _used(status) > cutoff:
                continue
            if _used(status) == cutoff:
                if as_old <= 0:
                    continue
                as_old -= size_of(status)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
                count += 1
            gone += size_of(status)
        return count, gone


def blocks(length: int) -> int:
    """Tell about how many bytes of disk a file of this length takes."""
    return -(-length // _BLOCK) * _BLOCK


def size_of(status: os.stat_result) -> int:
    """Tell how many bytes of disk a file takes."""
    return max(status.st_size, getattr(status, "st_blocks", 0) * 512)


def _used(status: os.stat_result) -> int:
    """Tell when a file was last used, in nanoseconds since 1970."""
    return max(status.st_atime_ns, status.st_mtime_ns)


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


def _add(connection: sqlite3.Connection, size: int) -> tuple[int, float] | None:
    with transaction(connection):
        connection.execute(_ADD, (size,))
        found: tuple[int, float] | None = connection.execute(_GET).fetchone()
    return found
