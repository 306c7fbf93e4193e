"""Leases in an SQLite table, for the stores of one machine."""

import functools
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from askonce.core.lease import DEFAULT_SECONDS, Leases
from askonce.stores.database import Database, create, transaction, write

_SCHEMA = """
CREATE TABLE IF NOT EXISTS askonce_leases (
    key TEXT PRIMARY KEY, holder TEXT NOT NULL, expires REAL NOT NULL
) WITHOUT ROWID
"""
_AT_ONCE = 500
_TAKE = (
    "INSERT INTO askonce_leases SELECT column1, ?, ? FROM (VALUES {}) WHERE true "
    "ON CONFLICT (key) DO UPDATE SET holder = excluded.holder, expires = excluded.expires "
    "WHERE holder = excluded.holder OR expires <= ?"
)
_TAKEN = "SELECT key FROM askonce_leases WHERE holder = ? AND key IN (VALUES {})"
_RENEW = "UPDATE askonce_leases SET expires = ? WHERE key = ? AND holder = ?"
_DROP = "DELETE FROM askonce_leases WHERE holder = ? AND key IN (VALUES {})"


class SQLiteLeases(Leases):
    """Keep the leases of a store's processes in a table; they must share one clock."""

    def __init__(self, database: Database | Path, seconds: float = DEFAULT_SECONDS) -> None:
        super().__init__(seconds)
        self._given = database

    def take(self, keys: Sequence[str], holder: str, seconds: float) -> list[str]:
        now = time.time()

        def work(connection: sqlite3.Connection) -> list[str]:
            granted: list[str] = []
            with transaction(connection):
                for part in _parts(keys):
                    values = (holder, now + seconds, *part, now)
                    taken = connection.execute(_for_all(_TAKE, len(part)), values).rowcount
                    if taken == len(part):
                        granted += part
                    elif taken:
                        found = connection.execute(_for_all(_TAKEN, len(part)), (holder, *part))
                        mine = {key for (key,) in found}
                        granted += [key for key in part if key in mine]
            return granted

        return self._database.run(work)

    def renew(self, keys: Sequence[str], holder: str, seconds: float) -> None:
        expires = time.time() + seconds
        rows = [(expires, key, holder) for key in keys]
        self._database.run(lambda connection: write(connection, _RENEW, rows))

    def drop(self, keys: Sequence[str], holder: str) -> None:
        def work(connection: sqlite3.Connection) -> None:
            with transaction(connection):
                for part in _parts(keys):
                    connection.execute(_for_all(_DROP, len(part)), (holder, *part))

        self._database.run(work)

    def close(self) -> None:
        """Close the file of its own, too, if it has one."""
        super().close()
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


def _parts(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    return (keys[start : start + _AT_ONCE] for start in range(0, len(keys), _AT_ONCE))


@functools.lru_cache(maxsize=64)
def _for_all(statement: str, count: int) -> str:
    return statement.format(",".join(["(?)"] * count))
