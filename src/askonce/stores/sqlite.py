"""The default store: one SQLite file for many threads and processes."""

import contextlib
import functools
import itertools
import os
import sqlite3
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
PAGE_SIZE = 32768
"""Vectors of 1,536 float32 fit five to a page of this size; smaller pages waste a quarter."""

SMALL_PAGE_SIZE = 4096
"""For entries written one at a time: each write puts every page it touches into the log."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS askonce_meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS askonce_entries (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    expires REAL NOT NULL,
    value BLOB NOT NULL
);
"""
_READ = (
    "WITH wanted (place, wanted_key) AS (VALUES {}) SELECT place, value "
    "FROM wanted CROSS JOIN askonce_entries ON key = wanted_key"
)
"""Places cost less than keys on their way back, and `IN` would sort the keys first."""
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
    `page_size` is for a new file; one that is there keeps its own.
    """

    def __init__(self, path: str | os.PathLike[str], *, page_size: int = PAGE_SIZE) -> None:
        self.path = Path(path).absolute()
        self._connections = _Connections(self.path)
        weakref.finalize(self, self._connections.close)
        self._make_file()
        self._with(functools.partial(_prepare, path=self.path, page_size=page_size))

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
            return self._connections.use(work)
        except (sqlite3.Error, UnicodeEncodeError) as error:
            raise StoreError(f"{self.path}: {_explain(error)}") from error

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

    SQLite's connections must not cross a fork, not even idle: the child would believe to hold
    locks that only its parent has, and lose what it writes once the parent closes the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        self._room = fork.Room(self._close_idle)

    def use(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._room:
            if self._closed:
                raise StoreError(f"{self._path}: the store is closed")
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = _connect(self._path)
            try:
                outcome = work(connection)
            except BaseException:
                connection.close()
                raise
            self._idle.append(connection)
            if self._closed:
                self._close_idle()
            return outcome

    def close(self) -> None:
        self._closed = True
        self._close_idle()

    def _close_idle(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
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


def _prepare(connection: sqlite3.Connection, path: Path, page_size: int) -> None:
    """Make the tables, also when several processes do so at once, or refuse a newer format."""
    found = _format_of(connection)
    if found is None:
        connection.execute(f"PRAGMA page_size = {page_size}")
        _persist(lambda: connection.execute("PRAGMA journal_mode = WAL").fetchone())
        connection.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA.split(";"):
            connection.execute(statement)
        connection.execute("INSERT OR IGNORE INTO askonce_meta VALUES ('format', ?)", (FORMAT,))
        connection.execute("COMMIT")
        found = _format_of(connection)
    if found != FORMAT:
        raise StoreError(
            f"{path} holds format {found}, which a newer askonce wrote, and this one knows "
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
    values: list[bytes | None] = [None] * len(keys)
    for start in range(0, len(keys), _READ_AT_ONCE):
        part = keys[start : start + _READ_AT_ONCE]
        for place, value in connection.execute(_reading(len(part)), part):
            values[start + place] = value
    return values


@functools.lru_cache(maxsize=64)
def _reading(count: int) -> str:
    return _READ.format(",".join(f"({place},?)" for place in range(count)))


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
