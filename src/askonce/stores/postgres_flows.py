"""What a Postgres store says to its server, verb by verb, each said once for both colours."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import TypeVar

from askonce.stores.postgres_binary import (
    bytea_array,
    float8,
    integer_of,
    text_array,
    texts_of,
)
from askonce.stores.postgres_link import Limits, Result, Statement
from askonce.stores.postgres_schema import Tables

T = TypeVar("T")

Asking = Generator[Statement, Result, T]
"""Yields statements and is sent their results."""

_KEYS_AT_ONCE = 1000
_BYTES_AT_ONCE = 2**20
_UPKEEP = Limits(3600.0, 3600.0)
"""To vacuum takes as long as the table is large; it stops nobody."""

# Rows are locked in the order of their keys, so that two who write or delete the same ones never
# block each other for good.
_READ = "SELECT key, value FROM {entries} WHERE key = ANY($1::text[])"
_WRITE = (
    "INSERT INTO {entries} (key, expires, value) "
    "SELECT unnest($1::text[]), $3::float8, unnest($2::bytea[]) "
    "ON CONFLICT (key) DO UPDATE SET expires = excluded.expires, value = excluded.value"
)
_GONE = (
    "WITH due AS ({} FOR UPDATE), gone AS ("
    "DELETE FROM {{entries}} AS entry USING due WHERE entry.key = due.key RETURNING entry.key) "
    "SELECT count(*), max(key) FROM gone"
)
_DELETE = _GONE.format("SELECT key FROM {entries} WHERE key = ANY($1::text[]) ORDER BY key")
_PAGE = (
    "SELECT key FROM {entries} WHERE key >= convert_from($1, 'UTF8') "
    "AND key <> convert_from($2, 'UTF8') AND ($3::bytea IS NULL OR key < convert_from($3, 'UTF8')) "
    "ORDER BY key LIMIT 1000"
)
_CLEAR = _GONE.format(_PAGE)
_PRUNE = _GONE.format(
    "SELECT key FROM {entries} WHERE expires <= $1::float8 AND expires < 'Infinity' "
    "ORDER BY key LIMIT 1000"
)
_FORGET_LEASES = "DELETE FROM {leases} WHERE until < clock_timestamp() - interval '1 hour'"
_SIZE = (
    "WITH part AS (SELECT unnest(ARRAY[oid, reltoastrelid]) AS oid FROM pg_class "
    "WHERE oid = '{entries}'::regclass), whole AS (SELECT oid FROM part UNION ALL "
    "SELECT indexrelid FROM pg_index JOIN part ON indrelid = part.oid) "
    "SELECT coalesce(sum(pg_relation_size(oid)), 0)::int8 FROM whole WHERE oid <> 0"
)
"""Less what a vacuum notes beside the table: that would make it larger for being tidied up."""


class Flows:
    """Make the flows of statements for the verbs of a store."""

    def __init__(self, tables: Tables, *, lookup: Limits, work: Limits) -> None:
        self._names = {"entries": tables.entries, "leases": tables.leases}
        self._lookup = lookup
        self._work = work

    def _say(self, sql: str, *values: bytes | None, limits: Limits | None = None) -> Statement:
        return Statement(sql.format_map(self._names), values, limits or self._work)

    def read(self, keys: Sequence[str]) -> Asking[list[bytes | None]]:
        """Read values, in the order of the keys."""
        found: dict[str, bytes | None] = {}
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            part = text_array(keys[start : start + _KEYS_AT_ONCE])
            result = yield self._say(_READ, part, limits=self._lookup)
            value = result.get_value
            found.update((key, value(row, 1)) for row, key in enumerate(texts_of(result)))
        return [found.get(key) for key in keys]

    def write(self, entries: Mapping[str, bytes], expires: float) -> Asking[None]:
        """Write entries; a part of a large batch is a transaction of its own."""
        end = float8(expires)
        parts = [
            (text_array(part), bytea_array([entries[key] for key in part]))
            for part in _parts(entries)
        ]
        for keys, values in parts:
            yield self._say(_WRITE, keys, values, end)

    def delete(self, keys: Sequence[str]) -> Asking[None]:
        """Delete keys."""
        wanted = sorted(set(keys))
        for start in range(0, len(wanted), _KEYS_AT_ONCE):
            yield self._say(_DELETE, text_array(wanted[start : start + _KEYS_AT_ONCE]))

    def page(self, prefix: str, after: str) -> Asking[list[str]]:
        """List some of the keys with a prefix, those that follow on another."""
        return texts_of((yield self._say(_PAGE, *_range(prefix, after))))

    def clear(self, prefix: str) -> Asking[int]:
        """Delete keys with a prefix, some at a time; tell how many."""
        count = 0
        last = ""
        while True:
            result = yield self._say(_CLEAR, *_range(prefix, last))
            gone = integer_of(result)
            if not gone:
                return count
            count += gone
            (last,) = texts_of(result, 1)

    def prune(self, now: float) -> Asking[int]:
        """Delete what has expired, some at a time; tell how many. Leases of the dead go too."""
        yield self._say(_FORGET_LEASES)
        count = 0
        while gone := integer_of((yield self._say(_PRUNE, float8(now)))):
            count += gone
        return count

    def size(self) -> Asking[int]:
        """Tell the bytes of the table and its indexes."""
        return integer_of((yield self._say(_SIZE)))

    def vacuum(self) -> Asking[None]:
        """Let the server use the space of deleted rows again."""
        yield self._say("VACUUM {entries}", limits=_UPKEEP)


def _parts(entries: Mapping[str, bytes]) -> Iterator[list[str]]:
    """Cut up a batch, in the order of keys, into what is written best at once."""
    part: list[str] = []
    size = 0
    for key in sorted(entries):
        part.append(key)
        size += len(entries[key])
        if size >= _BYTES_AT_ONCE or len(part) == _KEYS_AT_ONCE:
            yield part
            part, size = [], 0
    if part:
        yield part


def _range(prefix: str, after: str) -> tuple[bytes, bytes, bytes | None]:
    """Give where to begin, what to leave out, and before what to end."""
    end = _end(prefix)
    begin = max(prefix, after)
    return begin.encode(), after.encode(), None if end is None else end.encode()


def _end(prefix: str) -> str | None:
    """Give the first string, as code points go, after all those with a prefix; None if none is."""
    for length in range(len(prefix), 0, -1):
        following = ord(prefix[length - 1]) + 1
        if following == 0xD800:
            following = 0xE000  # no string in UTF-8 has a surrogate
        if following <= 0x10FFFF:
            return prefix[: length - 1] + chr(following)
    return None
