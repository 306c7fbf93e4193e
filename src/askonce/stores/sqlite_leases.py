"""Leases in an SQLite table, for the stores of one machine."""

import functools
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from askonce.core.lease import DEFAULT_SECONDS, Leases
from askonce.stores.database import Database, create, transaction, write

_SCHEMA = """
CREATE TABLE IF NOT EXISTS askonce_leases (
    key TEXT PRIMARY KEY, holder TEXT NOT NULL, expires REAL NOT NULL
) WITHOUT ROWID
"""
_HELD = "SELECT key FROM askonce_leases WHERE key = ? AND holder <> ? AND expires > ?"
_TAKE = "INSERT OR REPLACE INTO askonce_leases (key, holder, expires) VALUES (?, ?, ?)"
_RENEW = "UPDATE askonce_leases SET expires = ? WHERE key = ? AND holder = ?"
_DROP = "DELETE FROM askonce_leases WHERE key = ? AND holder = ?"


class SQLiteLeases(Leases):
    """Keep the leases of a store's processes in a table; they must share one clock."""

    def __init__(self, database: Database | Path, seconds: float = DEFAULT_SECONDS) -> None:
        super().__init__(seconds)
        self._given = database

    def take(self, keys: Sequence[str], holder: str, seconds: float) -> list[str]:
        now = time.time()

        def work(connection: sqlite3.Connection) -> list[str]:
            with transaction(connection):
                held = {
                    key
                    for key in keys
                    if connection.execute(_HELD, (key, holder, now)).fetchone() is not None
                }
                granted = [key for key in keys if key not in held]
                rows = [(key, holder, now + seconds) for key in granted]
                connection.executemany(_TAKE, rows)
            return granted

        return self._database.run(work)

    def renew(self, keys: Sequence[str], holder: str, seconds: float) -> None:
        expires = time.time() + seconds
        rows = [(expires, key, holder) for key in keys]
        self._database.run(lambda connection: write(connection, _RENEW, rows))

    def drop(self, keys: Sequence[str], holder: str) -> None:
        rows = [(key, holder) for key in keys]
        self._database.run(lambda connection: write(connection, _DROP, rows))

    def close(self) -> None:
        """Close the file of its own, if it has one."""
        if isinstance(self._given, Path) and "_database" in self.__dict__:
            self._database.close()

    @functools.cached_property
    def _database(self) -> Database:
        database = self._given
        if isinstance(database, Path):
            database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            database = Database(database, synchronous="OFF")
        database.run(lambda connection: create(connection, _SCHEMA, page_size=4096))
        return database
