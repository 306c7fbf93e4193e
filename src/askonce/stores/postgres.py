"""A store in a Postgres table, shared by any number of hosts."""

import functools
import re
import urllib.parse
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import TypeVar

from askonce.core.entry import NEVER
from askonce.core.finding import Finding
from askonce.core.lease import Leases
from askonce.core.store import Store
from askonce.errors import InputError, MissingExtraError, StoreRefusedError
from askonce.stores import Location

try:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict
except ImportError as error:
    raise MissingExtraError("psycopg", "postgres", "the store postgresql://") from error

from askonce.stores.guarded import LOOKUP_TIMEOUT, TIMEOUT, Guarded
from askonce.stores.postgres_diagnosis import findings_of
from askonce.stores.postgres_flows import Asking, Flows
from askonce.stores.postgres_leases import PostgresLeases
from askonce.stores.postgres_link import Limits
from askonce.stores.postgres_schema import Tables
from askonce.stores.postgres_server import Server

T = TypeVar("T")

TABLE = "askonce_entries"
CONNECTIONS = 8
_OPTIONS = ("connections", "lookup_timeout", "table", "timeout", "unlogged")


class PostgresStore(Store):
    """Keep entries in a table of a Postgres database, made when it is first needed.

    Nothing is asked of the server before that, so opening neither waits nor fails. A look-up
    fails when the server is silent for `lookup_timeout` seconds, everything else after `timeout`.
    Nothing relies on the state of a session, so PgBouncer may give each transaction another one.
    """

    def __init__(
        self,
        url: str,
        *,
        table: str = TABLE,
        unlogged: bool = False,
        lookup_timeout: float = LOOKUP_TIMEOUT,
        timeout: float = TIMEOUT,
        connections: int = CONNECTIONS,
    ) -> None:
        self._tables = Tables(table, unlogged=unlogged)
        self._lookup = Limits(lookup_timeout, max(timeout, lookup_timeout))
        self._work = Limits(timeout, timeout)
        self._flows = Flows(self._tables, lookup=self._lookup, work=self._work)
        self._server = Server(
            _parameters_of(url), self._tables, timeout=timeout, connections=connections
        )

    @classmethod
    def open(cls, location: Location) -> Guarded:
        """Open `postgresql://user:password@host/database`, guarded; libpq's options are for it."""
        options = location.options
        begin, _, query = location.url.partition("?")
        rest = [
            (name, value)
            for name, value in urllib.parse.parse_qsl(query, keep_blank_values=True)
            if name not in _OPTIONS
        ]
        lookup_timeout = location.seconds_option("lookup_timeout", LOOKUP_TIMEOUT)
        timeout = location.seconds_option("timeout", TIMEOUT)
        store = cls(
            f"{begin}?{urllib.parse.urlencode(rest, quote_via=urllib.parse.quote)}",
            table=options.get("table", TABLE),
            unlogged=_flag_of(options.get("unlogged", "0")),
            lookup_timeout=lookup_timeout,
            timeout=timeout,
            connections=_count_of(options.get("connections", str(CONNECTIONS))),
        )
        return Guarded(store, lookup_timeout=lookup_timeout, timeout=timeout)

    @functools.cached_property
    def leases(self) -> Leases:
        return PostgresLeases(
            self._server.ask, self._tables.leases, asked=self._lookup, renewed=self._work
        )

    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        return self._run(self._flows.read(keys))

    async def aread(self, keys: Sequence[str]) -> list[bytes | None]:
        return await self._arun(self._flows.read(keys))

    def write(self, entries: Mapping[str, bytes], *, expires: float = NEVER) -> None:
        self._run(self._flows.write(entries, expires))

    async def awrite(self, entries: Mapping[str, bytes], *, expires: float = NEVER) -> None:
        await self._arun(self._flows.write(entries, expires))

    def delete(self, keys: Sequence[str]) -> None:
        self._run(self._flows.delete(keys))

    async def adelete(self, keys: Sequence[str]) -> None:
        await self._arun(self._flows.delete(keys))

    def keys(self, prefix: str = "") -> Iterator[str]:
        last = ""
        while page := self._run(self._flows.page(prefix, last)):
            yield from page
            last = page[-1]

    async def akeys(self, prefix: str = "") -> AsyncIterator[str]:
        last = ""
        while page := await self._arun(self._flows.page(prefix, last)):
            for key in page:
                yield key
            last = page[-1]

    def clear(self, prefix: str) -> int:
        return self._run(self._flows.clear(prefix))

    async def aclear(self, prefix: str) -> int:
        return await self._arun(self._flows.clear(prefix))

    def size(self) -> int:
        """Tell the bytes of the table and its indexes."""
        return self._run(self._flows.size())

    async def asize(self) -> int:
        return await self._arun(self._flows.size())

    def prune(self, now: float) -> int:
        return self._run(self._flows.prune(now))

    async def aprune(self, now: float) -> int:
        return await self._arun(self._flows.prune(now))

    def vacuum(self) -> None:
        """Let the server use the space of deleted rows again; it stops nobody."""
        self._run(self._flows.vacuum())

    async def avacuum(self) -> None:
        await self._arun(self._flows.vacuum())

    def diagnose(self) -> list[Finding]:
        return findings_of(self._server.ask, self._tables, self._work)

    def close(self) -> None:
        self._close_leases()
        self._server.close()

    def _run(self, flow: Asking[T]) -> T:
        try:
            statement = next(flow)
            while True:
                statement = flow.send(self._server.ask(statement))
        except StopIteration as end:
            outcome: T = end.value
            return outcome
        except UnicodeEncodeError as error:
            raise _no_key(error) from None

    async def _arun(self, flow: Asking[T]) -> T:
        try:
            statement = next(flow)
            while True:
                statement = flow.send(await self._server.aask(statement))
        except StopIteration as end:
            outcome: T = end.value
            return outcome
        except UnicodeEncodeError as error:
            raise _no_key(error) from None


def _no_key(error: UnicodeEncodeError) -> StoreRefusedError:
    return StoreRefusedError(f"a key that UTF-8 cannot hold: {error}")


def _flag_of(text: str) -> bool:
    if text not in {"0", "1"}:
        raise InputError(f"unlogged is {text!r}; write 1 or 0")
    return text == "1"


def _count_of(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise InputError(f"connections is {text!r}; write a number above 0")
    return int(text)


def _parameters_of(url: str) -> dict[str, str]:
    """Take libpq's parameters from a URL. Raises InputError, which does not show its secrets."""
    scheme, _, rest = url.partition("://")
    try:
        found = conninfo_to_dict(f"{scheme.lower()}://{rest}")
    except psycopg.Error as error:
        # What else libpq says may repeat the URL.
        unknown = re.search('invalid URI query parameter: "[^"]*"', str(error))
        said = (
            f"{unknown[0]}; ours are {', '.join(_OPTIONS)}"
            if unknown
            else (
                "write postgresql://user:password@host:5432/database, and special characters in "
                "names and passwords as %40 and the like"
            )
        )
        raise InputError(f"this is no URL of Postgres: {said}") from None
    parameters = {name: str(value) for name, value in found.items() if value is not None}
    for port in filter(None, parameters.get("port", "").split(",")):
        if not port.isdecimal() or not 0 < int(port) < 2**16:
            raise InputError(f"{port!r} is not a port; write postgresql://host:5432/database")
    return parameters
