"""The default store: one SQLite file for many threads and processes."""

import functools
import itertools
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from askonce.core.entry import NEVER
from askonce.core.lease import Leases
from askonce.core.store import Store
from askonce.errors import StoreError
from askonce.stores import Location
from askonce.stores.database import Database, create, persist, write
from askonce.stores.sqlite_leases import SQLiteLeases

T = TypeVar("T")

FORMAT = 1
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
        self._database = Database(self.path)
        self._database.run(functools.partial(_prepare, path=self.path, page_size=page_size))

    @classmethod
    def open(cls, location: Location) -> "SQLiteStore":
        """Open `sqlite:///file.db`."""
        location.only_options()
        return cls(location.file_path())

    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        return self._database.run(lambda connection: _read(connection, keys))

    def write(self, entries: Mapping[str, bytes], *, expires: float = NEVER) -> None:
        rows = [(key, expires, value) for key, value in entries.items()]
        self._database.run(lambda connection: write(connection, _WRITE, rows))

    def delete(self, keys: Sequence[str]) -> None:
        self._database.run(lambda connection: write(connection, _DELETE, [(key,) for key in keys]))

    @functools.cached_property
    def leases(self) -> Leases:
        return SQLiteLeases(self._database)

    def keys(self, prefix: str = "") -> Iterator[str]:
        last = ""
        while page := self._database.run(functools.partial(_page, prefix=prefix, after=last)):
            yield from page
            last = page[-1]

    def close(self) -> None:
        self._database.close()


def _prepare(connection: sqlite3.Connection, path: Path, page_size: int) -> None:
    """Make the tables or refuse a newer format."""
    found = _format_of(connection)
    if found is None:
        create(connection, _SCHEMA, page_size=page_size)
        connection.execute("INSERT OR IGNORE INTO askonce_meta VALUES ('format', ?)", (FORMAT,))
        found = _format_of(connection)
    if found != FORMAT:
        raise StoreError(
            f"{path} holds format {found}, which a newer askonce wrote, and this one knows "
            f"format {FORMAT}; update askonce or choose another file"
        )


def _format_of(connection: sqlite3.Connection) -> int | None:
    names = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'askonce_meta'"
    if not persist(lambda: connection.execute(names).fetchone()):
        return None
    row = connection.execute("SELECT value FROM askonce_meta WHERE name = 'format'").fetchone()
    return int(row[0]) if row else None


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


def _page(connection: sqlite3.Connection, prefix: str, after: str) -> list[str]:
    rows = connection.execute(_KEYS, {"after": after, "prefix": prefix}).fetchall()
    return [key for (key,) in itertools.takewhile(lambda row: row[0].startswith(prefix), rows)]
