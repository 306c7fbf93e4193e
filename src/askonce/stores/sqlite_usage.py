"""The limit of an SQLite store: a narrow table of what was used when, and giving up the oldest.

Triggers keep the table right whoever writes. What goes makes room in the middle of the file, so
the last row moves there: the pages at the end become free, and the file stays dense.
"""

import functools
import itertools
import sqlite3
import statistics
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TypeVar

from askonce.stores.database import Database, transaction, write
from askonce.stores.usage import LOW_WATER, Touches, patience

T = TypeVar("T")

_AT_ONCE = 500
_EVICT_AT_ONCE = 100
_VICTIMS_AT_ONCE = 100_000
_SAMPLE = 1000

_SETUP = """
CREATE TABLE IF NOT EXISTS askonce_usage (id INTEGER PRIMARY KEY, used REAL NOT NULL)

CREATE TRIGGER IF NOT EXISTS askonce_usage_insert AFTER INSERT ON askonce_entries BEGIN
    DELETE FROM askonce_usage WHERE id = new.id;
    INSERT INTO askonce_usage VALUES (new.id, (julianday('now') - 2440587.5) * 86400);
END

CREATE TRIGGER IF NOT EXISTS askonce_usage_update AFTER UPDATE OF value ON askonce_entries BEGIN
    UPDATE askonce_usage SET used = (julianday('now') - 2440587.5) * 86400 WHERE id = new.id;
END

CREATE TRIGGER IF NOT EXISTS askonce_usage_move AFTER UPDATE OF id ON askonce_entries BEGIN
    UPDATE askonce_usage SET id = new.id WHERE id = old.id;
END

CREATE TRIGGER IF NOT EXISTS askonce_usage_delete AFTER DELETE ON askonce_entries BEGIN
    DELETE FROM askonce_usage WHERE id = old.id;
END

INSERT OR IGNORE INTO askonce_usage SELECT id, id / 1e9 FROM askonce_entries

INSERT OR IGNORE INTO askonce_meta
    VALUES ('half_used_since', (julianday('now') - 2440587.5) * 86400)
"""
_HALF_SINCE = "SELECT value FROM askonce_meta WHERE name = 'half_used_since'"
_SET_HALF_SINCE = "UPDATE askonce_meta SET value = ? WHERE name = 'half_used_since'"
_OCCUPIED = (
    "SELECT (page_count - freelist_count) * page_size "
    "FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
)
_NOTE = "UPDATE askonce_usage SET used = ? WHERE id = ?"
_OLDEST = "SELECT id, used FROM askonce_usage ORDER BY used, id LIMIT ?"
_GIVE_UP = (
    "DELETE FROM askonce_entries WHERE id = :id "
    "AND (SELECT used FROM askonce_usage WHERE id = :id) <= :cutoff"
)
_LAST = "SELECT max(id) FROM askonce_entries"
_MOVE = "UPDATE askonce_entries SET id = ? WHERE id = ?"


class Usage:
    """Keep a store's file within `max_bytes`, counted in pages in use."""

    def __init__(self, database: Database, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._database = database
        self.touches: Touches[int] = Touches(self._note)
        database.run(_set_up)

    def is_above(self) -> bool:
        """Tell whether something has to go."""
        return self._database.run(_occupied) > self.max_bytes

    def evict(self, spared: Collection[str] = ()) -> int:
        """Give up the least recently used entries, but none of these keys; tell how many."""
        goal = int(self.max_bytes * LOW_WATER)
        count = 0
        while self._database.run(_occupied) > goal:
            victims = self._database.run(functools.partial(_victims, goal=goal, spared=spared))
            gone = self._give_up(victims, goal)
            count += gone
            if not gone:
                break
        self._database.run(_learn_half_since)
        return count

    def _give_up(self, victims: Sequence[tuple[int, float]], goal: int) -> int:
        cutoff = victims[-1][1] if victims else 0.0
        # A transaction stays in the log until it is whole: short ones for a small store.
        step = max(10, min(_EVICT_AT_ONCE, self.max_bytes // 2**19))
        moved: dict[int, int] = {}
        count = 0
        for part in _parts((id_ for id_, _ in victims), step):
            work = functools.partial(_give_up, ids=part, cutoff=cutoff, goal=goal, moved=moved)
            gone = self._database.run(work)
            count += gone
            if not gone:
                break
        return count

    def _note(self, ids: set[int]) -> None:
        self._database.run(functools.partial(_note, ids=ids))


def _set_up(connection: sqlite3.Connection) -> None:
    if connection.execute(_HALF_SINCE).fetchone() is None:
        with transaction(connection):
            for statement in _SETUP.split("\n\n"):
                connection.execute(statement)


def _occupied(connection: sqlite3.Connection) -> int:
    (size,) = connection.execute(_OCCUPIED).fetchone()
    return int(size)


def _note(connection: sqlite3.Connection, ids: set[int]) -> None:
    now = time.time()
    (half_since,) = connection.execute(_HALF_SINCE).fetchone()
    cutoff = now - patience(now, half_since)
    stale = set(ids)
    for part in _parts(ids, _AT_ONCE):
        recent = f"SELECT id FROM askonce_usage WHERE id IN ({_marks(len(part))}) AND used >= ?"  # noqa: S608  only marks
        stale.difference_update(id_ for (id_,) in connection.execute(recent, (*part, cutoff)))
    if stale:
        write(connection, _NOTE, [(now, id_) for id_ in stale])


def _victims(
    connection: sqlite3.Connection, goal: int, spared: Collection[str]
) -> list[tuple[int, float]]:
    """Give the ids of the least recently used entries, as many as are too many, and their times."""
    occupied = _occupied(connection)
    (count,) = connection.execute("SELECT count(*) FROM askonce_usage").fetchone()
    enough = count * max(0, occupied - goal) // occupied + 1
    ids: set[int] = set()
    for part in _parts(spared, _AT_ONCE):
        mine = f"SELECT id FROM askonce_entries WHERE key IN ({_marks(len(part))})"  # noqa: S608  only marks
        ids.update(id_ for (id_,) in connection.execute(mine, part))
    oldest = connection.execute(_OLDEST, (min(enough, _VICTIMS_AT_ONCE) + len(ids),)).fetchall()
    return [(id_, used) for id_, used in oldest if id_ not in ids]


def _give_up(
    connection: sqlite3.Connection,
    ids: Sequence[int],
    cutoff: float,
    goal: int,
    moved: dict[int, int],
) -> int:
    """Delete those that were not used meanwhile, as long as that is needed; tell how many.

    `moved` tells where rows went that were moved into gaps.
    """
    count = 0
    with transaction(connection):
        if _occupied(connection) <= goal:
            return 0
        for victim in ids:
            place = victim
            while place in moved:
                place = moved.pop(place)
            if connection.execute(_GIVE_UP, {"id": place, "cutoff": cutoff}).rowcount:
                count += 1
                (last,) = connection.execute(_LAST).fetchone()
                if last is not None and last > place:
                    connection.execute(_MOVE, (place, last))
                    moved[last] = place
    return count


def _learn_half_since(connection: sqlite3.Connection) -> None:
    (count,) = connection.execute("SELECT count(*) FROM askonce_usage").fetchone()
    sample = "SELECT used FROM askonce_usage WHERE id % ? = 0"
    times = [used for (used,) in connection.execute(sample, (max(1, count // _SAMPLE),))]
    if times:
        connection.execute(_SET_HALF_SINCE, (statistics.median(times),))


def _marks(count: int) -> str:
    return ",".join("?" * count)


def _parts(items: Iterable[T], size: int) -> Iterator[list[T]]:
    remaining = iter(items)
    while part := list(itertools.islice(remaining, size)):
        yield part
