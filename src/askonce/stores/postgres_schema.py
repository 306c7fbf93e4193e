"""The tables of a Postgres store: how they are made, and whether those found are they."""

import re
from collections.abc import Callable

from askonce.errors import InputError, StoreError
from askonce.stores.postgres_binary import texts_of
from askonce.stores.postgres_link import Result

Ask = Callable[..., Result]
"""Asks one statement, with its values, of one connection."""

_NAME = re.compile(r"(?:([a-z_][a-z0-9_]{0,62})\.)?([a-z_][a-z0-9_]{0,54})")
_FORMAT = re.compile(r"askonce: format (\d+)")

MIGRATIONS = (
    """
    CREATE {unlogged} TABLE IF NOT EXISTS {entries} (
        key text COLLATE "C" PRIMARY KEY,
        expires double precision NOT NULL,
        value bytea NOT NULL
    ) WITH (toast_tuple_target = 8160);
    ALTER TABLE {entries} ALTER COLUMN value SET STORAGE EXTERNAL;
    CREATE INDEX IF NOT EXISTS {expires} ON {entries} (expires) WHERE expires < 'Infinity';
    CREATE UNLOGGED TABLE IF NOT EXISTS {leases} (
        key text COLLATE "C" PRIMARY KEY,
        holder text NOT NULL,
        until timestamptz NOT NULL
    )
    """,
)
"""What makes the tables, and then each later format from the one before.

Values cannot be compressed, and a vector of 1,536 float32 is read in half the time if it is in
the row. Leases may be lost with the server.
"""

FORMAT = len(MIGRATIONS)

_COLUMNS = {
    "key": 'text COLLATE "C"',
    "expires": "double precision",
    "value": "bytea",
    "holder": "text",
    "until": "timestamp with time zone",
}
_ENTRIES = ("key", "expires", "value")
_LEASES = ("key", "holder", "until")

_FIND = """
SELECT a.attname::text,
    format_type(a.atttypid, a.atttypmod)
        || CASE WHEN a.attname = 'key' AND l.collname = 'C' THEN ' COLLATE "C"' ELSE '' END,
    CASE WHEN a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' THEN 'yes' ELSE 'no' END,
    CASE WHEN EXISTS (
        SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid
            AND i.indpred IS NULL AND i.indkey::text = a.attnum::text
    ) THEN 'yes' ELSE 'no' END,
    c.relkind::text,
    obj_description(c.oid, 'pg_class')
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_collation l ON l.oid = a.attcollation
WHERE c.oid = to_regclass(convert_from($1, 'UTF8'))
"""


class Tables:
    """Name the tables of a store, make them and check them."""

    def __init__(self, table: str, *, unlogged: bool) -> None:
        match = _NAME.fullmatch(table)
        if match is None:
            raise InputError(
                f"{table!r} is not a name for the table of a store; write 'name' or "
                "'schema.name' in lower-case letters, digits and underscores, 55 at most"
            )
        self.name = table
        self.schema, plain = match.groups()
        before = f'"{self.schema}".' if self.schema else ""
        self.entries = f'{before}"{plain}"'
        self.leases = f'{before}"{plain}_leases"'
        self._expires = f'"{plain}_expires"'
        self._unlogged = unlogged

    def prepare(self, ask: Ask) -> None:
        """Make sure that the tables are there and are ours. Raises StoreError, Refusal.

        Other processes may do the same at the same moment.
        """
        if self._found(ask) == FORMAT:
            return
        ask("BEGIN")
        ask("SELECT pg_advisory_xact_lock(hashtextextended(convert_from($1, 'UTF8'), 0))", self._id)
        found = self._found(ask)
        for number, migration in enumerate(MIGRATIONS[found:], start=found + 1):
            script = migration.format(
                entries=self.entries,
                leases=self.leases,
                expires=self._expires,
                unlogged="UNLOGGED" if self._unlogged else "",
            )
            for statement in script.split(";"):
                ask(statement)
            ask(f"COMMENT ON TABLE {self.entries} IS 'askonce: format {number}'")
        ask("COMMIT")

    @property
    def _id(self) -> bytes:
        return self.entries.encode()

    def _found(self, ask: Ask) -> int:
        """Give the format of the tables that are there, 0 if one is missing."""
        entries = self._check(ask(_FIND, self._id), self.name, _ENTRIES)
        leases = self._check(ask(_FIND, self.leases.encode()), f"{self.name}_leases", _LEASES)
        if entries is None or leases is None:
            return 0
        noted = _FORMAT.search(entries)
        found = int(noted[1]) if noted else FORMAT
        if found > FORMAT:
            raise StoreError(
                f"the table {self.name} has format {found}, which a newer askonce made, and this "
                f"one knows format {FORMAT}; update askonce, or choose another with ?table="
            )
        return found

    def _check(self, found: Result, name: str, wanted: tuple[str, ...]) -> str | None:
        """Give the comment of a table, None if there is none. Raises StoreError."""
        if not found.ntuples:
            return None
        names, types, needed, unique, kinds, comments = (texts_of(found, n) for n in range(6))
        columns = dict(zip(names, types, strict=True))
        wrong = [
            f"its column {column!r} is {columns.get(column, 'missing')}, not {_COLUMNS[column]}"
            for column in wanted
            if columns.get(column) != _COLUMNS[column]
        ]
        wrong += [
            f"its column {column!r}, which is not ours, must have a value"
            for column, must in zip(names, needed, strict=True)
            if column not in wanted and must == "yes"
        ]
        if kinds[0] not in "rp":
            wrong = ["it is no table"]
        elif not wrong and unique[names.index("key")] != "yes":
            wrong = ["its column 'key' has no unique index"]
        if wrong:
            raise StoreError(
                f"the table {name} is not one that askonce made, or somebody altered it: "
                f"{'; '.join(wrong)}. Choose another with ?table=, or rename or drop this one"
            )
        return comments[0]
