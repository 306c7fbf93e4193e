"""The default store: one SQLite file for many threads and processes."""

import asyncio
import functools
import itertools
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeVar

from askonce.core.entry import NEVER
from askonce.core.finding import Finding
from askonce.core.lease import Leases
from askonce.core.store import Store
from askonce.core.table import cut
from askonce.errors import InputError, StoreError
from askonce.stores import Location
from askonce.stores.database import LOG_BYTES, Database, create, persist, write
from askonce.stores.diagnosis import disk_of
from askonce.stores.sqlite_diagnosis import findings_of
from askonce.stores.sqlite_leases import SQLiteLeases
from askonce.stores.sqlite_usage import Usage
from askonce.stores.unwaiting import Unwaiting
from askonce.stores.usage import check_limit, fitting, refuse_the_rest

T = TypeVar("T")

FORMAT = 1
_READ_AT_ONCE = 500
_JOIN_AT_ONCE = 999
"""SQLite before 3.32 takes no more parameters."""

_MOST_AT_ONCE = 65536
"""Bytes that a loop writes itself."""
PAGE_SIZE = 32768
"""Vectors of 1,536 float32 fit five to a page of this size; smaller pages waste a quarter."""

_PAGE_SIZES = tuple(2**power for power in range(9, 17))

_SCHEMA = """
CREATE TABLE IF NOT EXISTS askonce_meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS askonce_entries (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    expires REAL NOT NULL,
    value BLOB NOT NULL
);
"""
_EXPIRES_INDEX = (
    "CREATE INDEX IF NOT EXISTS askonce_expires ON askonce_entries (expires) WHERE expires < 9e999"
)
"""An entry that never expires is not in it, and costs nothing."""

_READ = (
    "WITH wanted (place, wanted_key) AS (VALUES {}) SELECT place, value{} "
    "FROM wanted CROSS JOIN askonce_entries ON key = wanted_key"
)
"""Places cost less than keys on their way back, and `IN` would sort the keys first."""
_READ_JOINED = (
    "WITH wanted (wanted_key) AS (VALUES {}) SELECT count(*), min(length(value)), "
    "max(length(value)), CAST(group_concat(value, '') AS BLOB) "
    "FROM wanted CROSS JOIN askonce_entries ON key = wanted_key"
)
"""One row with all the values costs a third less than a row for each, up to 2 KB a value."""
_READ_ONE = "SELECT value FROM askonce_entries WHERE key = ?"
_WRITE = (
    "INSERT INTO askonce_entries (key, expires, value) VALUES (?, ?, ?) "
    "ON CONFLICT (key) DO UPDATE SET expires = excluded.expires, value = excluded.value"
)
_DELETE = "DELETE FROM askonce_entries WHERE key = ?"
_PRUNE = (
    "DELETE FROM askonce_entries WHERE id IN (SELECT id FROM askonce_entries "
    "WHERE expires <= ? AND expires < 9e999 LIMIT 500)"
)
_KEYS = (
    "SELECT key FROM askonce_entries WHERE key >= max(:after, :prefix) AND key <> :after "
    "ORDER BY key LIMIT 1000"
)


class SQLiteStore(Store):
    """Keep entries in a table of an SQLite file, made for the owner only.

    Write-ahead logging lets readers go on while one process writes. A commit survives the death
    of the process at once; after a power cut the last commits may be missing, none is torn.
    `page_size` is for a new file; one that is there keeps its own. Above `max_bytes` the least
    recently used entries are given up.
    """

    IS_AT_HAND = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        page_size: int = PAGE_SIZE,
        max_bytes: int | None = None,
    ) -> None:
        self.path = Path(path).absolute()
        self.max_bytes = check_limit(max_bytes)
        log_bytes = LOG_BYTES if max_bytes is None else min(LOG_BYTES, max_bytes // 8)
        self._database = Database(self.path, log_bytes=log_bytes)
        prepare = functools.partial(
            _prepare, path=self.path, page_size=page_size, log_bytes=log_bytes
        )
        self._database.run(prepare)
        self._usage = None if max_bytes is None else Usage(self._database, max_bytes)
        # A joined look-up is one statement, which SQLite carries out without the interpreter.
        self.beside = "reads" if self._usage is None else "copies"

    @classmethod
    def open(cls, location: Location) -> "SQLiteStore":
        """Open `sqlite:///file.db`, whose options are `max_bytes` and `page_size`."""
        location.only_options("max_bytes", "page_size")
        page_size = location.size_option("page_size", PAGE_SIZE)
        if page_size not in _PAGE_SIZES:
            raise InputError(
                f"{location.shown!r}: page_size is {page_size}; "
                f"SQLite has pages of {', '.join(map(str, _PAGE_SIZES))} bytes"
            )
        return cls(location.file_path(), page_size=page_size, max_bytes=location.limit_option())

    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        if self._usage is None:
            return self._database.run(lambda connection: _read(connection, keys))
        values, ids = self._database.run(lambda connection: _read_noting(connection, keys))
        self._usage.touches.add(ids)
        return values

    def read_at_once(self, key: str) -> list[bytes | None] | None:
        if self._usage is not None:
            return super().read_at_once(key)
        if not self.works_in_loops:
            return None
        return self._unwaiting.read(lambda connection: _read(connection, (key,)))

    def stamp(self) -> object:
        # With a limit, every look-up must be seen, to tell what was used last.
        return None if self._usage is not None else self._database.stamp()

    def read_joined(self, keys: Sequence[str]) -> bytes | list[bytes | None]:
        if self._usage is not None or len(keys) == 1:
            return self.read(keys)
        return self._database.run(lambda connection: _read_joined(connection, keys))

    async def aread_joined(self, keys: Sequence[str]) -> bytes | list[bytes | None]:
        return await asyncio.to_thread(self.read_joined, keys)

    def write(self, entries: Mapping[str, bytes], *, expires: float = NEVER) -> None:
        usage = self._usage
        fit = entries
        if usage is not None:
            fit = fitting(entries, usage.max_bytes)
            usage.touches.flush()
        rows = [(key, expires, value) for key, value in fit.items()]
        self._database.change(lambda connection: write(connection, _WRITE, rows))
        self._database.trim_log()
        if usage is not None:
            self._evict(usage, fit)
            refuse_the_rest(entries, fit, usage.max_bytes)

    def write_at_once(self, entries: Mapping[str, bytes], *, expires: float = NEVER) -> bool:
        if not self.works_in_loops or self._usage is not None:
            return False
        if sum(map(len, entries.values())) > _MOST_AT_ONCE:
            return False
        rows = [(key, expires, value) for key, value in entries.items()]

        def work(connection: sqlite3.Connection) -> Literal[True]:
            write(connection, _WRITE, rows)
            return True

        return self._unwaiting.change(work) is not None

    def _evict(self, usage: Usage, spared: Mapping[str, bytes]) -> int:
        if not usage.is_above():
            return 0
        count = self.prune(time.time())
        return count + usage.evict(spared) if usage.is_above() else count

    def delete(self, keys: Sequence[str]) -> None:
        self._database.change(
            lambda connection: write(connection, _DELETE, [(key,) for key in keys])
        )

    @functools.cached_property
    def leases(self) -> Leases:
        return SQLiteLeases(self._database, unwaiting=lambda: self._unwaiting)

    @functools.cached_property
    def _unwaiting(self) -> Unwaiting:
        return Unwaiting(self._database)

    def keys(self, prefix: str = "") -> Iterator[str]:
        last = ""
        while page := self._database.run(functools.partial(_page, prefix=prefix, after=last)):
            yield from page
            last = page[-1]

    def size(self) -> int:
        """Tell the size of the file and of the log beside it."""
        files = (self.path, self._database.log)
        try:
            return sum(path.stat().st_size for path in files if path.exists())
        except OSError as error:
            raise StoreError(f"{self.path}: {error}") from error

    def prune(self, now: float) -> int:
        self._database.run(lambda connection: connection.execute(_EXPIRES_INDEX))
        count = 0
        while pruned := self._database.run(
            lambda connection: connection.execute(_PRUNE, (now,)).rowcount
        ):
            count += pruned
        return count

    def evict(self) -> int:
        if self._usage is None:
            return 0
        self._usage.touches.flush()
        return self._evict(self._usage, {})

    def vacuum(self) -> None:
        """Write the file anew without gaps; others may read meanwhile, and wait to write."""
        self._database.run(_vacuum)

    def diagnose(self) -> list[Finding]:
        return [*self._database.run(findings_of), *disk_of(self.path, needs_locks=True)]

    def close(self) -> None:
        if self._usage is not None:
            self._usage.touches.flush()
        self._close_leases()
        # The file first: then no loop opens it once more.
        self._database.close()
        if "_unwaiting" in self.__dict__:
            self._unwaiting.close()


def _prepare(connection: sqlite3.Connection, path: Path, page_size: int, log_bytes: int) -> None:
    """Make the tables or refuse a newer format."""
    found = _format_of(connection)
    if found is None:
        create(connection, _SCHEMA + _EXPIRES_INDEX, page_size=page_size, log_bytes=log_bytes)
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
    if len(keys) == 1:
        row: tuple[bytes] | None = connection.execute(_READ_ONE, tuple(keys)).fetchone()
        return [None] if row is None else [row[0]]
    values: list[bytes | None] = [None] * len(keys)
    for start in range(0, len(keys), _READ_AT_ONCE):
        part = keys[start : start + _READ_AT_ONCE]
        for place, value in connection.execute(_reading(len(part)), part):
            values[start + place] = value
    return values


def _read_joined(connection: sqlite3.Connection, keys: Sequence[str]) -> bytes | list[bytes | None]:
    parts: list[bytes | list[bytes | None]] = []
    lengths: set[int] = set()
    for start in range(0, len(keys), _JOIN_AT_ONCE):
        part = keys[start : start + _JOIN_AT_ONCE]
        block, length = _read_block(connection, part)
        parts.append(_read(connection, part) if block is None else block)
        lengths.add(length)
    if len(lengths) == 1 and all(lengths):
        return b"".join(part for part in parts if isinstance(part, bytes))
    values: list[bytes | None] = []
    for number, found in enumerate(parts):
        count = len(keys[number * _JOIN_AT_ONCE : (number + 1) * _JOIN_AT_ONCE])
        values += cut(found, count) if isinstance(found, bytes) else found
    return values


def _read_block(
    connection: sqlite3.Connection, keys: Sequence[str]
) -> tuple[bytes | list[bytes | None] | None, int]:
    """Read values as one block, and tell their length.

    The block is a list if none is there, and None unless all are, of one length.
    """
    try:
        count, shortest, longest, block = connection.execute(_joining(len(keys)), keys).fetchone()
    except sqlite3.DataError:  # longer together than SQLite allows
        return None, 0
    if not count:
        nothing: list[bytes | None] = [None] * len(keys)
        return nothing, 0
    # Values are no text: that SQLite joins them byte by byte is seen from the length.
    whole = count == len(keys) and 0 < shortest == longest and len(block) == count * longest
    return (block, longest) if whole else (None, 0)


def _read_noting(
    connection: sqlite3.Connection, keys: Sequence[str]
) -> tuple[list[bytes | None], list[int]]:
    """Read, and give the ids of what was there too."""
    values: list[bytes | None] = [None] * len(keys)
    ids: list[int] = []
    for start in range(0, len(keys), _READ_AT_ONCE):
        part = keys[start : start + _READ_AT_ONCE]
        for place, value, row in connection.execute(_reading(len(part), ", id"), part):
            values[start + place] = value
            ids.append(row)
    return values, ids


@functools.lru_cache(maxsize=64)
def _reading(count: int, more: str = "") -> str:
    return _READ.format(",".join(f"({place},?)" for place in range(count)), more)


@functools.lru_cache(maxsize=64)
def _joining(count: int) -> str:
    return _READ_JOINED.format(",".join(["(?)"] * count))


def _vacuum(connection: sqlite3.Connection) -> None:
    persist(lambda: connection.execute("VACUUM"))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _page(connection: sqlite3.Connection, prefix: str, after: str) -> list[str]:
    rows = connection.execute(_KEYS, {"after": after, "prefix": prefix}).fetchall()
    return [key for (key,) in itertools.takewhile(lambda row: row[0].startswith(prefix), rows)]
