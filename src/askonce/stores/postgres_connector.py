"""The way to a Postgres server: connecting, making sure of the tables, and what to do if not."""

import math
import re
from collections.abc import Mapping

import psycopg
from psycopg.conninfo import make_conninfo

from askonce.errors import StoreError
from askonce.stores.postgres_link import Limits, Link, Patience, Refusal, Result, Statement
from askonce.stores.postgres_schema import Tables

NO_RIGHTS = "42501"
_TOO_MANY = (
    "lower the option 'connections', raise the server's max_connections, or put PgBouncer before it"
)
_ADVICE: Mapping[str, str] = {
    "25006": "it is a read-only replica, or its transactions are read-only by default: "
    "give the URL of the primary, or add target_session_attrs=read-write to it",
    "3F000": "name the schema: ?table=schema.name",
    "40P01": "others wrote the same entries at the same moment: try again",
    "53100": "free space on the server's disk: prune or clear the store",
    "53200": "give the server more memory",
    "53300": _TOO_MANY,
}
"""What to do about what a server says, by its code."""

# There are no codes before a connection stands.
_AT_CONNECTING: Mapping[str, str] = {
    "password authentication failed": "check the user and the password in the URL",
    "no password supplied": "give a password: in the URL, as PGPASSWORD or in ~/.pgpass",
    "database .*does not exist": "create the database, or name another one in the URL's path",
    "invalid response": "what listens there is no Postgres server: check host and port",
    "too many": _TOO_MANY,
    "timeout": "check that a Postgres server is at this host and port and answers",
}


class Connector:
    """Connect to a server; the first time, make sure of the tables of a store there."""

    def __init__(self, parameters: Mapping[str, str], tables: Tables, *, timeout: float) -> None:
        self.name = _name_of(parameters)
        self._tables = tables
        self._parameters = {
            "connect_timeout": str(max(2, math.ceil(timeout))),
            "client_encoding": "UTF8",
            "fallback_application_name": "askonce",
            **parameters,
        }
        self._limits = Limits(timeout, timeout)
        self._prepared = False

    def connect(self) -> Link:
        """Connect. Raises StoreError that says what to do."""
        try:
            parameters = make_conninfo("", **self._parameters)
            connection = psycopg.connect(parameters, autocommit=True)
        except psycopg.Error as error:
            raise StoreError(f"{self.name}: {_explain_connecting(error)}") from None
        link = Link(connection)
        try:
            self._prepare(link)
        except Refusal as error:
            link.close()
            raise StoreError(f"{self.name}: {self._explain_making(error, link)}") from None
        except (psycopg.Error, TimeoutError) as error:
            link.close()
            raise StoreError(f"{self.name}: {explain_lost(error, self._limits)}") from None
        except BaseException:
            link.close()
            raise
        return link

    def look_again(self) -> None:
        """Make sure of the tables again, when somebody connects next."""
        self._prepared = False

    def explain(self, error: Refusal, link: Link) -> str:
        """Say what the server said, and what to do."""
        advice = _ADVICE.get(error.code)
        if error.code == NO_RIGHTS:
            tables = f"{self._tables.entries}, {self._tables.leases}"
            advice = f'GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO "{link.user}"'
        return f"{error}; {advice}" if advice else str(error)

    def _prepare(self, link: Link) -> None:
        def ask(sql: str, *values: bytes) -> Result:
            return link.ask(Statement(sql, values, self._limits), Patience(self._limits))

        if not self._prepared:
            self._tables.prepare(ask)
            self._prepared = True

    def _explain_making(self, error: Refusal, link: Link) -> str:
        if error.code != NO_RIGHTS:
            return self.explain(error, link)
        schema = self._tables.schema or "public"
        return (
            f"{error}, so the table {self._tables.name} cannot be made; "
            f'GRANT USAGE, CREATE ON SCHEMA "{schema}" TO "{link.user}", '
            "or let somebody who may do that open the store once"
        )


def _name_of(parameters: Mapping[str, str]) -> str:
    """Name a server in messages, without any secret."""
    host = parameters.get("host") or parameters.get("hostaddr") or parameters.get("service", "")
    port = f":{parameters['port']}" if "port" in parameters else ""
    return f"postgresql://{host}{port}/{parameters.get('dbname', '')}"


def _explain_connecting(error: psycopg.Error) -> str:
    message = " ".join(str(error).split())
    advice = (advice for sign, advice in _AT_CONNECTING.items() if re.search(sign, message))
    found = next(advice, "")
    return f"{message}; {found}" if found else message


def explain_lost(error: Exception, limits: Limits) -> str:
    """Say how a connection was lost, or that nothing came."""
    if isinstance(error, TimeoutError):
        return (
            f"no answer within {limits.silence:g} s; look at the server, or allow more with "
            "?lookup_timeout= (look-ups) or ?timeout= (all else)"
        )
    return f"the connection is lost: {' '.join(str(error).split())}"
