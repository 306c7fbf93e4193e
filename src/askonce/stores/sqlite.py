"""The default store: one SQLite file for many threads and processes."""

import contextlib
import functools
import itertools
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from askonce.core import fork
from askonce.core.entry import NEVER
from askonce.core.store import Store
from askonce.errors import StoreError
from askonce.stores import Location

T = TypeVar("T")

FORMAT = 1
_BUSY_SECONDS = 30.0
_READ_AT_ONCE = 500
_PAGE_SIZE = 32768
"""Vectors of 1,536 float32 fit five to a page of this size; smaller pages waste a quarter."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS askonce_meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS askonce_entries (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    expires REAL NOT NULL,
    value BLOB NOT NULL
);
"""
_READ = "SELECT key, value FROM askonce_entries WHERE key IN ({})"
_WRITE = (
    "INSERT INTO askonce_entries (key, expires, value) VALUES (?, ?, ?) "
    "ON CONFLICT (key) DO UPDATE SET expires = excluded.expires, value = excluded.value"
)
_DELETE = "DELETE FROM askonce_entries WHERE key = ?"
_KEYS = (
    "SELECT key FROM askonce_entries WHERE key >= max(:after, :prefix) AND key <> :after "
    "ORDER BY key LIMIT 1000"
)


class SQLiteStore(Store):
    """Keep entries in a table of an SQLite file, made for the owner only.

    Write-ahead logging lets readers go on while one process writes. A commit survives the death
    of the process at once; after a power cut the last commits may be missing, none is torn.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self._connections = _Connections(self.path)
        weakref.finalize(self, self._connections.close)
        self._make_file()
        self._with(_prepare)

    @classmethod
    def open(cls, location: Location) -> "SQLiteStore":
        """Open `sqlite:///file.db`."""
        location.only_options()
        return cls(location.file_path())

    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        return self._with(lambda connection: _read(connection, keys))

    def write(self, entries: Mapping[str, bytes], *, expires: float = NEVER) -> None:
        rows = [(key, expires, value) for key, value in entries.items()]
        self._with(lambda connection: _write(connection, _WRITE, rows))

    def delete(self, keys: Sequence[str]) -> None:
        self._with(lambda connection: _write(connection, _DELETE, [(key,) for key in keys]))

    def keys(self, prefix: str = "") -> Iterator[str]:
        last = ""
        while page := self._with(functools.partial(_page, prefix=prefix, after=last)):
            yield from page
            last = page[-1]

    def close(self) -> None:
        self._connections.close()

    def _with(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do work on a connection of our own, and say what is wrong if it fails."""
        try:
            connection = self._connections.borrow()
            healthy = False
            try:
                outcome = work(connection)
                healthy = True
            finally:
                self._connections.give_back(connection, healthy=healthy)
        except (sqlite3.Error, UnicodeEncodeError) as error:
            raise StoreError(f"{self.path}: {_explain(error)}") from error
        return outcome

    def _make_file(self) -> None:
        if self.path.is_dir():
            raise StoreError(f"{self.path} is a folder; an SQLite store is a file")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
            os.close(os.open(self.path, flags, 0o600))
        except FileExistsError:
            pass
        except OSError as error:
            raise StoreError(f"cannot make the SQLite store {self.path}: {error}") from error


class _Connections:
    """Lend the connections to one file, each to one thread at a time.

    SQLite's connections must not cross a fork, open or idle: the child would believe to hold
    locks that only its parent has, and lose what it writes once the parent closes the file. So
    before a fork (`acquire`) all come home and are closed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: list[sqlite3.Connection] = []
        self._lent = 0
        self._closed = False
        self._forking = False
        self._changed = threading.Condition()
        fork.hold_still(self)

    def borrow(self) -> sqlite3.Connection:
        with self._changed:
            while self._forking:
                self._changed.wait()
            if self._closed:
                raise StoreError(f"{self._path}: the store is closed")
            self._lent += 1
            if self._idle:
                return self._idle.pop()
        try:
            return _connect(self._path)
        except BaseException:
            with self._changed:
                self._one_less_lent()
            raise

    def give_back(self, connection: sqlite3.Connection, *, healthy: bool) -> None:
        with self._changed:
            if healthy and not self._closed:
                self._idle.append(connection)
            else:
                connection.close()
            self._one_less_lent()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._close_idle()

    def acquire(self) -> None:
        self._changed.acquire()
        self._forking = True
        while self._lent:
            self._changed.wait()
        self._close_idle()

    def release(self) -> None:
        self._forking = False
        self._changed.notify_all()
        self._changed.release()

    def _one_less_lent(self) -> None:
        self._lent -= 1
        if self._forking:
            self._changed.notify_all()

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA cache_size = -16384")
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    """Make the tables, also when several processes do so at once, or refuse a newer format."""
    found = _format_of(connection)
    if found is None:
        connection.execute(f"PRAGMA page_size = {_PAGE_SIZE}")
        _persist(lambda: connection.execute("PRAGMA journal_mode = WAL").fetchone())
        connection.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA.split(";"):
            connection.execute(statement)
        connection.execute("INSERT OR IGNORE INTO askonce_meta VALUES ('format', ?)", (FORMAT,))
        connection.execute("COMMIT")
        found = _format_of(connection)
    if found != FORMAT:
        raise StoreError(
            f"the file holds format {found}, which a newer askonce wrote, and this one knows "
            f"format {FORMAT}; update askonce or choose another file"
        )


def _format_of(connection: sqlite3.Connection) -> int | None:
    names = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'askonce_meta'"
    if not _persist(lambda: connection.execute(names).fetchone()):
        return None
    row = connection.execute("SELECT value FROM askonce_meta WHERE name = 'format'").fetchone()
    return int(row[0]) if row else None


def _persist(attempt: Callable[[], T]) -> T:
    """Try again while the file is locked: some statements do not wait by themselves."""
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            return attempt()
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.005)


def _read(connection: sqlite3.Connection, keys: Sequence[str]) -> list[bytes | None]:
    found: dict[str, bytes] = {}
    for start in range(0, len(keys), _READ_AT_ONCE):
        part = keys[start : start + _READ_AT_ONCE]
        found.update(connection.execute(_READ.format(",".join("?" * len(part))), part))
    return list(map(found.get, keys))


def _write(
    connection: sqlite3.Connection, statement: str, rows: Sequence[Sequence[object]]
) -> None:
    if len(rows) == 1:
        connection.execute(statement, rows[0])
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.executemany(statement, rows)
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _page(connection: sqlite3.Connection, prefix: str, after: str) -> list[str]:
    rows = connection.execute(_KEYS, {"after": after, "prefix": prefix}).fetchall()
    return [key for (key,) in itertools.takewhile(lambda row: row[0].startswith(prefix), rows)]


def _explain(error: Exception) -> str:
    message = str(error)
    if isinstance(error, UnicodeEncodeError):
        return f"a key that UTF-8 cannot hold: {message}"
    if "not a database" in message:
        return "the file is not an SQLite database; choose another path or move the file away"
    if "readonly" in message or "unable to open" in message:
        return f"{message}; check that the file and its folder may be written"
    return message
