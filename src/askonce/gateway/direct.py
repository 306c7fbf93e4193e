"""Straight to an upstream: a transport of httpx2 that keeps its connections open."""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Final

import aiohappyeyeballs
import httpx2

from askonce.gateway.connection import Connection
from askonce.gateway.reading import Reading
from askonce.gateway.writing import written

_MOST_IDLE: Final = 64
_IDLE_FOR: Final = 60.0
_NEXT_ADDRESS_AFTER: Final = 0.25
"""Seconds, as RFC 8305 recommends."""


class Direct(httpx2.AsyncBaseTransport):
    """Send requests to one host over HTTP/1.1.

    Times are in seconds: `connect_timeout` for a connection to be free or made, `timeout` for
    something to come or go.
    """

    def __init__(
        self,
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
        *,
        connect_timeout: float,
        timeout: float,
        max_connections: int,
    ) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        if tls is not None:
            tls.set_alpn_protocols(["http/1.1"])
        self._connect_timeout = connect_timeout
        self._timeout = timeout
        self._free = asyncio.Semaphore(max_connections)
        self._idle: list[Connection] = []
        self._used: set[Connection] = set()
        self._is_closed = False

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        head, body = written(request)
        connection = await self._take(request)
        try:
            reading = await connection.ask(request.method, head, body)
        except BaseException:
            self.give_back(connection)
            trace = request.extensions.get("trace")
            if trace is not None and connection.has_begun:
                await trace("connection.answer_begun", {})
            raise
        return httpx2.Response(
            reading.status, headers=reading.headers, stream=_Body(self, connection, reading)
        )

    async def aclose(self) -> None:
        """Close all connections."""
        self._is_closed = True
        for connection in [*self._idle, *self._used]:
            connection.close()

    async def _take(self, request: httpx2.Request) -> Connection:
        if self._free.locked():
            try:
                async with asyncio.timeout(self._connect_timeout):
                    await self._free.acquire()
            except TimeoutError:
                raise httpx2.PoolTimeout("no connection became free in time") from None
        else:
            await self._free.acquire()
        connection = self._resting()
        if connection is None:
            try:
                connection = await self._open(request)
            except BaseException:
                self._free.release()
                raise
        self._used.add(connection)
        return connection

    def _resting(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            connection.wake()
            if connection.is_open and connection.is_silent:
                return connection
            connection.close()
        return None

    async def _open(self, request: httpx2.Request) -> Connection:
        trace = request.extensions.get("trace")
        if trace is not None:
            await trace("connection.connect_tcp.started", {})
        try:
            async with asyncio.timeout(self._connect_timeout):
                return await self.connect()
        except TimeoutError:
            raise httpx2.ConnectTimeout(f"{self._host} took no connection in time") from None
        except (OSError, UnicodeError) as error:
            # The latter is for what can be the name of no host.
            raise httpx2.ConnectError(str(error)) from error

    async def connect(self) -> Connection:
        """Open a connection. Raises OSError."""
        loop = asyncio.get_running_loop()
        name = self._host if self._tls is not None else None
        if _is_address(self._host):
            # There is nothing to look up, and nothing to choose from.
            _, connection = await loop.create_connection(
                self.made, self._host, self._port, ssl=self._tls, server_hostname=name
            )
            return connection
        addresses = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        connected = await aiohappyeyeballs.start_connection(
            addresses, happy_eyeballs_delay=_NEXT_ADDRESS_AFTER, interleave=1
        )
        try:
            _, connection = await loop.create_connection(
                self.made, sock=connected, ssl=self._tls, server_hostname=name
            )
        except BaseException:
            connected.close()
            raise
        return connection

    def made(self) -> Connection:
        """Make a connection that is not connected yet."""
        return Connection(self._timeout, self._forget)

    def _forget(self, connection: Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)

    def give_back(self, connection: Connection) -> None:
        """Let others have a connection, or close it if it may not stay."""
        if connection not in self._used:
            return
        self._used.discard(connection)
        if connection.may_stay and not self._is_closed and len(self._idle) < _MOST_IDLE:
            connection.rest(_IDLE_FOR)
            self._idle.append(connection)
        else:
            connection.close()
        self._free.release()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class _Body(httpx2.AsyncByteStream):
    """Be the body of a response; closing it ends the exchange."""

    def __init__(self, direct: Direct, connection: Connection, reading: Reading) -> None:
        self._direct = direct
        self._connection = connection
        self._reading = reading
        self._is_over = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while chunk := await self._chunk():
            yield chunk

    async def _chunk(self) -> bytes:
        if not self._is_over:
            return await self._connection.chunk(self._reading)
        if self._reading.is_whole and not self._reading.chunks:
            return b""
        # Not to be taken for the end.
        raise httpx2.ReadError("the response was closed before its end")

    async def aclose(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._direct.give_back(self._connection)
