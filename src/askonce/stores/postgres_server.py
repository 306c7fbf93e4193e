"""A Postgres server as a store and its leases ask it: in both colours, with errors of ours."""

import math
from collections.abc import Mapping

import psycopg

from askonce.errors import StoreError, StoreRefusedError
from askonce.stores.postgres_connector import NO_RIGHTS, Connector, explain_lost
from askonce.stores.postgres_link import Link, Patience, Refusal, Result, Statement
from askonce.stores.postgres_links import Links
from askonce.stores.postgres_schema import Tables

_TROUBLE = (Refusal, psycopg.Error, TimeoutError)

_SICK = ("08", "532", "533", "57", "58", "XX")
"""Begins of the codes that say that the server itself is in trouble."""


class Server:
    """Ask a server, through connections that are made when they are first wanted."""

    def __init__(
        self, parameters: Mapping[str, str], tables: Tables, *, timeout: float, connections: int
    ) -> None:
        self._connector = Connector(parameters, tables, timeout=timeout)
        self._links = Links(self._connector.connect, connections, self._connector.name)

    def ask(self, statement: Statement) -> Result:
        """Ask a statement and give its result. Raises StoreError."""
        patience = Patience(statement.limits)
        link = self._links.take(patience)
        try:
            result = link.ask(statement, patience)
        except _TROUBLE as error:
            raise self._failure(error, link, patience) from None
        except BaseException:
            self._links.drop(link)
            raise
        self._links.give(link)
        return result

    async def aask(self, statement: Statement) -> Result:
        """Ask without blocking the event loop."""
        patience = Patience(statement.limits)
        link = await self._links.atake(patience)
        try:
            result = await link.aask(statement, patience)
        except _TROUBLE as error:
            raise self._failure(error, link, patience) from None
        except BaseException:
            self._links.drop(link)
            raise
        self._links.give(link)
        return result

    def close(self) -> None:
        """Close all connections."""
        self._links.close()

    def _failure(self, error: Exception, link: Link, patience: Patience) -> StoreError:
        """Part with the connection as the error asks for, and give an error that explains it."""
        name = self._connector.name
        if not isinstance(error, Refusal):
            self._links.drop(link, unproven_since=patience.since)
            return StoreError(f"{name}: {explain_lost(error, patience.limits)}")
        if error.code.startswith("42") and error.code != NO_RIGHTS:
            # Somebody altered or dropped the table: look at it again before anything else.
            self._connector.look_again()
            self._links.drop(link, unproven_since=math.inf)
        elif link.is_free():
            self._links.give(link)
        else:
            self._links.drop(link)
        kind = StoreError if error.code.startswith(_SICK) else StoreRefusedError
        return kind(f"{name}: {self._connector.explain(error, link)}")
