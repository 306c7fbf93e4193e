"""What could not reach a far store yet: a queue, on disk or in memory, that several may share."""

import contextlib
import os
import sqlite3
import sys
import threading
import weakref
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from askonce.core import fork
from askonce.errors import StoreError, StoreRefusedError
from askonce.stores.database import Database, create, transaction

T = TypeVar("T")

MAX_BYTES = 64 * 1024**2
_PARCEL_BYTES = 4 * 1024**2
_AT_ONCE = 500
_OVERHEAD = 100
"""About what the queue takes for an operation besides its key and value, in bytes."""

# A key has one row at most, the last that was to be done with it; one without a value deletes.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS askonce_outbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    is_prefix INTEGER NOT NULL,
    key TEXT NOT NULL,
    value BLOB,
    expires REAL NOT NULL,
    queued REAL NOT NULL,
    tell INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    UNIQUE (is_prefix, key)
);
CREATE INDEX IF NOT EXISTS askonce_outbox_bytes ON askonce_outbox (bytes)
"""
_QUEUE = (
    "INSERT OR REPLACE INTO askonce_outbox (is_prefix, key, value, expires, queued, bytes, tell) "
    "SELECT ?1, ?2, ?3, ?4, ?5, ?6, max(?7, coalesce((SELECT tell FROM askonce_outbox "
    "WHERE is_prefix = ?1 AND key = ?2), 0))"
)
_FIRST = (
    "SELECT number, is_prefix, key, value, expires, queued, tell FROM askonce_outbox "
    "ORDER BY number LIMIT 500"
)
_FIND = "SELECT key, value FROM askonce_outbox WHERE is_prefix = 0 AND key IN ({})"
_CLEARED = "SELECT key FROM askonce_outbox WHERE is_prefix = 1"
_UNDER = "DELETE FROM askonce_outbox WHERE is_prefix = 0 AND substr(key, 1, ?) = ?"

Rows = list[tuple[int, str, bytes | None, float, float, int, bool]]


Kind = Literal["write", "delete", "clear"]


@dataclass(frozen=True, slots=True)
class Parcel:
    """Hold what can be sent at once: what to do, and for each key its value and when it came.

    `values` are those to write, and None for each key to delete or prefix to clear. `tell` is
    whether a deletion waited for the key before, which other hosts may not have heard of.
    """

    kind: Kind
    expires: float
    numbers: list[int]
    keys: list[str]
    values: list[bytes | None]
    queued: list[float]
    tell: list[bool]


class Outbox:
    """Queue operations in their order, the last one for each key, up to `max_bytes`.

    With a path it is a file that survives the death of its processes and that they share, made
    when something is queued for the first time; without one it is this process's own.
    """

    def __init__(self, path: Path | None, max_bytes: int = MAX_BYTES) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        fork.hold_still(self._lock)
        self._turn = threading.Lock()
        self._process = os.getpid()
        self._opened: Database | _InMemory | None = None

    def is_empty(self) -> bool:
        """Tell whether nothing waits. Raises StoreError, as all verbs do."""
        database = self._there()
        return database is None or database.run(_is_empty)

    def count(self) -> int:
        """Tell how many operations wait."""
        database = self._there()
        return 0 if database is None else database.run(_count)

    def find(self, keys: Sequence[str]) -> dict[str, bytes | None]:
        """Give what waits for these keys: values to be written, None for what is to be deleted."""
        database = self._there()
        return {} if database is None else database.run(lambda connection: _find(connection, keys))

    def queue(self, entries: Mapping[str, bytes], *, expires: float, now: float) -> None:
        """Queue a write. Raises StoreRefusedError if there is no room for it."""
        rows: Rows = [
            (0, key, value, expires, now, len(key) + len(value) + _OVERHEAD, False)
            for key, value in entries.items()
        ]
        self._add(rows)

    def queue_delete(self, keys: Collection[str], *, now: float) -> None:
        """Queue a deletion. Raises StoreRefusedError if there is no room for it."""
        self._add([(0, key, None, 0.0, now, len(key) + _OVERHEAD, True) for key in keys])

    def queue_clear(self, prefix: str, *, now: float) -> None:
        """Queue clearing a prefix; what waits below it is forgotten. Raises StoreRefusedError."""
        self._add([(1, prefix, None, 0.0, now, len(prefix) + _OVERHEAD, True)], clearing=prefix)

    def first(self) -> Parcel | None:
        """Give what is to be sent first; None if nothing waits."""
        database = self._there()
        return None if database is None else database.run(_first)

    def sent(self, parcel: Parcel) -> None:
        """Take out what was sent, but nothing that was queued for the same keys since."""
        database = self._made()
        numbers = [(number,) for number in parcel.numbers]

        def work(connection: sqlite3.Connection) -> None:
            with transaction(connection):
                connection.executemany("DELETE FROM askonce_outbox WHERE number = ?", numbers)

        database.run(work)

    @contextlib.contextmanager
    def turn(self) -> Generator[bool]:
        """Be the only one to send inside this block; False if another one is at it.

        The system ends the turn of a process that dies.
        """
        if self._process != os.getpid():
            self._process = os.getpid()
            self._turn = threading.Lock()
        turn = self._turn
        if not turn.acquire(blocking=False):
            yield False
            return
        try:
            if self.path is None:
                yield True
            else:
                with _file_lock(self.path.with_name(self.path.name + "-turn")) as granted:
                    yield granted
        finally:
            turn.release()

    def close(self) -> None:
        """Let go of the file, or of what is in memory."""
        with self._lock:
            if self._opened is not None:
                self._opened.close()

    def _add(self, rows: Rows, *, clearing: str | None = None) -> None:
        database = self._made()

        def work(connection: sqlite3.Connection) -> None:
            with transaction(connection):
                if clearing is not None:
                    connection.execute(_UNDER, (len(clearing), clearing))
                connection.executemany(_QUEUE, rows)
                (size,) = connection.execute("SELECT total(bytes) FROM askonce_outbox").fetchone()
                if size > self.max_bytes:
                    raise StoreRefusedError(
                        f"{len(rows)} operations do not wait for the shared store, because "
                        f"{self.max_bytes} bytes of others do; see what keeps it from answering, "
                        "or raise outbox_bytes"
                    )

        database.run(work)

    def _there(self) -> "Database | _InMemory | None":
        """Give the queue if something was ever queued."""
        if self._opened is None and (self.path is None or not self.path.exists()):
            return None
        return self._made()

    def _made(self) -> "Database | _InMemory":
        if self._opened is None:
            with self._lock:
                if self._opened is None:
                    database = _InMemory() if self.path is None else Database(self.path)
                    database.run(_create)
                    self._opened = database
        return self._opened


class _InMemory:
    """Be a database in memory, of this process only: what a parent queued is the parent's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        fork.hold_still(self._lock)
        self._begin()
        weakref.finalize(self, self._connections.clear)

    def _begin(self) -> None:
        self._process = os.getpid()
        self._connections = [
            sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        ]

    def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._lock:
            if self._process != os.getpid():
                self.close()
                self._begin()
                _create(self._connections[0])
            return work(self._connections[0])

    def close(self) -> None:
        for connection in self._connections:
            connection.close()


def _create(connection: sqlite3.Connection) -> None:
    create(connection, _SCHEMA, page_size=4096)


def _is_empty(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM askonce_outbox LIMIT 1").fetchone() is None


def _count(connection: sqlite3.Connection) -> int:
    (count,) = connection.execute("SELECT count(*) FROM askonce_outbox").fetchone()
    return int(count)


def _find(connection: sqlite3.Connection, keys: Sequence[str]) -> dict[str, bytes | None]:
    found: dict[str, bytes | None] = {}
    prefixes = [prefix for (prefix,) in connection.execute(_CLEARED)]
    if prefixes:
        cleared = tuple(prefixes)
        found.update((key, None) for key in keys if key.startswith(cleared))
    for start in range(0, len(keys), _AT_ONCE):
        part = keys[start : start + _AT_ONCE]
        found.update(connection.execute(_FIND.format(",".join("?" * len(part))), part))
    return found


def _first(connection: sqlite3.Connection) -> Parcel | None:
    """Take rows from the start of the queue as long as they are of one kind."""
    parcel: Parcel | None = None
    size = 0
    cursor = connection.execute(_FIRST)
    with contextlib.closing(cursor):
        for number, is_prefix, key, value, expires, queued, tell in cursor:
            kind: Kind = "clear" if is_prefix else "delete" if value is None else "write"
            size += len(value or b"")
            if parcel is None:
                parcel = Parcel(kind, expires, [], [], [], [], [])
            alike = kind != "clear" and (kind, expires) == (parcel.kind, parcel.expires)
            if parcel.numbers and (not alike or size > _PARCEL_BYTES):
                break
            parcel.numbers.append(number)
            parcel.keys.append(key)
            parcel.values.append(value)
            parcel.queued.append(queued)
            parcel.tell.append(bool(tell))
    return parcel


@contextlib.contextmanager
def _file_lock(path: Path) -> Generator[bool]:
    """Hold a lock on a file that the system lets go when the process dies, if it can be had."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StoreError(f"cannot make {path}: {error}") from error
    try:
        granted = _try_to_lock(descriptor)
        try:
            yield granted
        finally:
            if granted:
                _unlock(descriptor)
    finally:
        os.close(descriptor)


if sys.platform == "win32":
    import msvcrt

    def _try_to_lock(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_to_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        # A child that was forked meanwhile has the lock, too, and must not go on holding it.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
