"""Leases in SQLite tables, for the stores of one machine.

Few keys have a row each. Many keys that are claimed at once have one row together, which costs
a fiftieth; whoever claims anything looks through those, and there are as many as batches under
way.
"""

import functools
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeVar

from askonce.core.lease import DEFAULT_SECONDS, Leases
from askonce.stores.database import Database, create, transaction
from askonce.stores.unwaiting import Unwaiting

T = TypeVar("T")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS askonce_leases (
    key TEXT PRIMARY KEY, holder TEXT NOT NULL, expires REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS askonce_claims (
    first TEXT PRIMARY KEY, holder TEXT NOT NULL, expires REAL NOT NULL, keys TEXT NOT NULL
) WITHOUT ROWID
"""
_MANY = 16
_BETWEEN = "\n"
_AT_ONCE = 500
_TAKE = (
    "INSERT INTO askonce_leases SELECT column1, ?, ? FROM (VALUES {}) WHERE true "
    "ON CONFLICT (key) DO UPDATE SET holder = excluded.holder, expires = excluded.expires "
    "WHERE holder = excluded.holder OR expires <= ?"
)
_TAKEN = "SELECT key FROM askonce_leases WHERE holder = ? AND key IN (VALUES {})"
_RENEW = "UPDATE askonce_leases SET expires = ? WHERE key = ? AND holder = ?"
_DROP = "DELETE FROM askonce_leases WHERE holder = ? AND key IN (VALUES {})"
_FORGET = "DELETE FROM askonce_leases WHERE expires <= ?"
_OTHERS = "SELECT key FROM askonce_leases WHERE holder <> ?"

_TAKE_TOGETHER = "INSERT OR IGNORE INTO askonce_claims VALUES (?, ?, ?, ?)"
_FORGET_TOGETHER = "DELETE FROM askonce_claims WHERE expires <= ?"
_OTHERS_TOGETHER = "SELECT keys FROM askonce_claims WHERE holder <> ?"
_OWN_TOGETHER = "SELECT first, keys FROM askonce_claims WHERE holder = ?"
_RENEW_TOGETHER = "UPDATE askonce_claims SET expires = ? WHERE first = ?"
_DROP_TOGETHER = "DELETE FROM askonce_claims WHERE first = ? AND holder = ? AND keys = ?"
_DROP_SOME = "UPDATE askonce_claims SET first = ?, keys = ? WHERE first = ?"


class SQLiteLeases(Leases):
    """Keep the leases of a store's processes in tables; they must share one clock.

    `unwaiting` gives what the store itself uses in event loops.
    """

    def __init__(
        self,
        database: Database | Path,
        seconds: float = DEFAULT_SECONDS,
        *,
        unwaiting: Callable[[], Unwaiting] | None = None,
    ) -> None:
        super().__init__(seconds)
        self._given = database
        self._shared = unwaiting

    def take(self, keys: Sequence[str], holder: str, seconds: float) -> list[str]:
        return self._database.change(self._taking(keys, holder, seconds))

    def take_at_once(self, keys: Sequence[str], holder: str, seconds: float) -> list[str] | None:
        return self._try(self._taking(keys, holder, seconds)) if len(keys) < _MANY else None

    def _taking(
        self, keys: Sequence[str], holder: str, seconds: float
    ) -> Callable[[sqlite3.Connection], list[str]]:
        now = time.time()

        def work(connection: sqlite3.Connection) -> list[str]:
            with transaction(connection):
                connection.execute(_FORGET_TOGETHER, (now,))
                others = {
                    key
                    for (together,) in connection.execute(_OTHERS_TOGETHER, (holder,))
                    for key in together.split(_BETWEEN)
                }
                free = [key for key in keys if key not in others] if others else keys
                take = _take_together if _are_many(free) else _take_each
                return take(connection, free, holder, now, now + seconds)

        return work

    def renew(self, keys: Sequence[str], holder: str, seconds: float) -> None:
        expires = time.time() + seconds

        def work(connection: sqlite3.Connection) -> None:
            rest = set(keys)
            with transaction(connection):
                for first, together in connection.execute(_OWN_TOGETHER, (holder,)).fetchall():
                    # Those of them that are no longer held run out when the others do.
                    if not rest.isdisjoint(claimed := together.split(_BETWEEN)):
                        rest.difference_update(claimed)
                        connection.execute(_RENEW_TOGETHER, (expires, first))
                connection.executemany(_RENEW, [(expires, key, holder) for key in rest])

        self._database.change(work)

    def drop(self, keys: Sequence[str], holder: str) -> None:
        self._database.change(self._dropping(keys, holder))

    def drop_at_once(self, keys: Sequence[str], holder: str) -> bool:
        return len(keys) < _MANY and self._try(self._dropping(keys, holder)) is not None

    def _dropping(
        self, keys: Sequence[str], holder: str
    ) -> Callable[[sqlite3.Connection], Literal[True]]:
        def work(connection: sqlite3.Connection) -> Literal[True]:
            with transaction(connection):
                if _are_many(keys):
                    whole = (keys[0], holder, _BETWEEN.join(keys))
                    if connection.execute(_DROP_TOGETHER, whole).rowcount:
                        return True
                dropped = sum(
                    connection.execute(_for_all(_DROP, len(part)), (holder, *part)).rowcount
                    for part in _parts(keys)
                )
                if dropped < len(keys):
                    _drop_from_together(connection, set(keys), holder)
            return True

        return work

    def _try(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """Do work if nobody else writes just now; whatever fails here, a thread tries again."""
        # Making the tables may wait for whoever writes: the first time is a thread's.
        return self._unwaiting.change(work) if "_database" in self.__dict__ else None

    def close(self) -> None:
        """Close the file of its own, too, if it has one."""
        super().close()
        if isinstance(self._given, Path) and "_database" in self.__dict__:
            self._database.close()
        if self._shared is None and "_unwaiting" in self.__dict__:
            self._unwaiting.close()

    @functools.cached_property
    def _unwaiting(self) -> Unwaiting:
        return Unwaiting(self._database) if self._shared is None else self._shared()

    @functools.cached_property
    def _database(self) -> Database:
        database = self._given
        if isinstance(database, Path):
            database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            database = Database(database, synchronous="OFF")
        log_bytes = database.log_bytes
        database.run(
            lambda connection: create(connection, _SCHEMA, page_size=4096, log_bytes=log_bytes)
        )
        return database


def _are_many(keys: Sequence[str]) -> bool:
    return len(keys) >= _MANY and _BETWEEN.join(keys).count(_BETWEEN) == len(keys) - 1


def _take_each(
    connection: sqlite3.Connection, keys: Sequence[str], holder: str, now: float, expires: float
) -> list[str]:
    granted: list[str] = []
    for part in _parts(keys):
        values = (holder, expires, *part, now)
        taken = connection.execute(_for_all(_TAKE, len(part)), values).rowcount
        if taken == len(part):
            granted += part
        elif taken:
            found = connection.execute(_for_all(_TAKEN, len(part)), (holder, *part))
            mine = {key for (key,) in found}
            granted += [key for key in part if key in mine]
    return granted


def _take_together(
    connection: sqlite3.Connection, keys: Sequence[str], holder: str, now: float, expires: float
) -> list[str]:
    connection.execute(_FORGET, (now,))
    others = {key for (key,) in connection.execute(_OTHERS, (holder,))}
    granted = [key for key in keys if key not in others]
    together = (*granted[:1], holder, expires, _BETWEEN.join(granted))
    if not granted or connection.execute(_TAKE_TOGETHER, together).rowcount:
        return granted
    return _take_each(connection, granted, holder, now, expires)  # of a holder that has them


def _drop_from_together(connection: sqlite3.Connection, keys: set[str], holder: str) -> None:
    for first, together in connection.execute(_OWN_TOGETHER, (holder,)).fetchall():
        claimed = together.split(_BETWEEN)
        rest = [key for key in claimed if key not in keys]
        if not rest:
            connection.execute(_DROP_TOGETHER, (first, holder, together))
        elif len(rest) < len(claimed):
            connection.execute(_DROP_SOME, (rest[0], _BETWEEN.join(rest), first))


def _parts(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    return (keys[start : start + _AT_ONCE] for start in range(0, len(keys), _AT_ONCE))


@functools.lru_cache(maxsize=64)
def _for_all(statement: str, count: int) -> str:
    return statement.format(",".join(["(?)"] * count))
