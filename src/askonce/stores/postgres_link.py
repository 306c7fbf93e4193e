"""One connection to Postgres, for both colours: statements go, and rows come, as bytes.

It stands on libpq as psycopg wraps it, for the sake of deadlines: psycopg's own connections wait
for a server that says nothing as long as it likes.
"""

import asyncio
import os
import selectors
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import pq
from psycopg.pq.abc import PGresult

Result = PGresult
Exchange = Generator[int, None, Result]
"""Yields what to wait for at the socket, as selectors write it; brings the result."""

_READ = selectors.EVENT_READ
_BOTH = selectors.EVENT_READ | selectors.EVENT_WRITE
_WELL = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK)
# The selector that needs no file of its own, where there is one.
_Selector: type[selectors.BaseSelector] = getattr(
    selectors, "PollSelector", selectors.SelectSelector
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Say for how many seconds a server may be silent, and how long a statement may take."""

    silence: float
    whole: float


@dataclass(frozen=True, slots=True)
class Statement:
    """Hold SQL with `$1`, `$2` …, the values in Postgres's binary form, and its limits."""

    sql: str
    values: Sequence[bytes | None]
    limits: Limits


class Patience:
    """Count down how long a statement may still take; the server's silence counts anew."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.since = time.monotonic()
        self._ends = self.since + limits.whole
        self._due = min(self.since + limits.silence, self._ends)

    def left(self) -> float:
        """Give the seconds that are left, none if that is over."""
        return max(0.0, self._due - time.monotonic())

    def renew(self) -> None:
        """Take note that the server is there."""
        self._due = min(time.monotonic() + self.limits.silence, self._ends)


class Refusal(Exception):  # noqa: N818  it is no error of ours, and never leaves the store
    """Hold what the server said instead of an answer, and its code (SQLSTATE)."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Link:
    """Own one connection; one call at a time may use it."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._server = connection.pgconn
        self.user = self._server.user.decode(errors="replace")
        self.process = os.getpid()
        self.proven = time.monotonic()

    def is_free(self) -> bool:
        """Tell whether nothing is under way on it."""
        return self._server.transaction_status == pq.TransactionStatus.IDLE

    def is_alive(self) -> bool:
        """Tell whether the server has not hung up; asks nobody."""
        try:
            # The first takes in what a server says as it leaves, the second finds it gone.
            self._server.consume_input()
            self._server.consume_input()
        except psycopg.Error:
            return False
        return self.is_free()

    def ask(self, statement: Statement, patience: Patience) -> Result:
        """Send a statement and give its result.

        Raises Refusal, psycopg.Error if the connection is lost, TimeoutError.
        """
        exchange = self._exchange(statement)
        with _Selector() as selector:
            try:
                events = next(exchange)
                selector.register(self._server.socket, events)
                while selector.select(patience.left()):
                    patience.renew()
                    wanted = next(exchange)
                    if wanted != events:
                        events = wanted
                        selector.modify(self._server.socket, events)
                    if not patience.left():
                        break
            except StopIteration as end:
                return self._checked(end.value)
        raise TimeoutError

    async def aask(self, statement: Statement, patience: Patience) -> Result:
        """Ask without blocking the event loop, of which any will do."""
        awaited = _Awaited(self._exchange(statement), self._server.socket, patience)
        return self._checked(await awaited.result())

    def _exchange(self, statement: Statement) -> Exchange:
        """Send a statement and take in all that comes back; yield what to wait for."""
        server = self._server
        values = statement.values
        formats = [pq.Format.BINARY] * len(values)
        server.send_query_params(
            statement.sql.encode(), values, param_formats=formats, result_format=pq.Format.BINARY
        )
        while server.flush():
            yield _BOTH
            server.consume_input()
        last: Result | None = None
        while True:
            while server.is_busy():
                yield _READ
                server.consume_input()
            result = server.get_result()
            if result is None:
                break
            last = result
        if last is None:
            raise psycopg.OperationalError("the server sent no result")
        return last

    def _checked(self, result: Result) -> Result:
        self.proven = time.monotonic()
        if result.status not in _WELL:
            code = result.error_field(pq.DiagnosticField.SQLSTATE) or b""
            message = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY)
            if message is None:
                raise psycopg.OperationalError(result.get_error_message())
            raise Refusal(code.decode(), message.decode(errors="replace"))
        return result

    def close(self) -> None:
        """Take leave of the server, without waiting for it."""
        if self.process != os.getpid() and not self._connection.closed:
            # The connection is the parent's, who goes on with it: say nothing to its server.
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, self._server.socket)
            os.close(nowhere)
        self._connection.close()


class _Awaited:
    """Move an exchange on from an event loop, whenever its socket is ready."""

    def __init__(self, exchange: Exchange, socket: int, patience: Patience) -> None:
        self._exchange = exchange
        self._socket = socket
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[Result] = self._loop.create_future()
        self._events = 0
        self._timer: asyncio.TimerHandle | None = None

    async def result(self) -> Result:
        """Wait for the result. Raises psycopg.Error if the connection is lost, TimeoutError."""
        self._advance()
        self._watch()
        try:
            return await self._done
        finally:
            self._stop()

    def _advance(self) -> None:
        if self._done.done():
            return
        self._patience.renew()
        try:
            events = next(self._exchange)
        except StopIteration as end:
            self._done.set_result(end.value)
            return
        except psycopg.Error as error:
            self._done.set_exception(error)
            return
        if not self._events:
            self._loop.add_reader(self._socket, self._advance)
        if events == _BOTH and self._events != _BOTH:
            self._loop.add_writer(self._socket, self._advance)
        elif self._events == _BOTH and events != _BOTH:
            self._loop.remove_writer(self._socket)
        self._events = events

    def _watch(self) -> None:
        """Look at the clock now and again, not anew at every step."""
        if left := self._patience.left():
            self._timer = self._loop.call_later(left, self._watch)
        elif not self._done.done():
            self._done.set_exception(TimeoutError())

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._events:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
        if self._done.done() and not self._done.cancelled():
            self._done.exception()  # a task cancelled at this moment would never look at it
