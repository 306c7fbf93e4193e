"""Straight to an upstream: a transport of httpx2 that keeps its connections open."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohappyeyeballs
import httpx2

from askonce.gateway.connection import Connection
from askonce.gateway.reading import Reading

_MOST_IDLE: Final = 64
_IDLE_FOR: Final = 60.0
_NEXT_ADDRESS_AFTER: Final = 0.25
"""Seconds, as RFC 8305 recommends."""

_UNSENDABLE: Final = frozenset(b"\0\r\n")


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

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        head, body = _written(request)
        connection = await self._take(request)
        try:
            reading = await connection.ask(request.method, head, body)
        except BaseException:
            self.give_back(connection)
            raise
        return httpx2.Response(
            reading.status, headers=reading.headers, stream=_Body(self, connection, reading)
        )

    async def aclose(self) -> None:
        """Close all connections."""
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
            if connection.is_open:
                return connection
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
        except (OSError, ssl.SSLError) as error:
            raise httpx2.ConnectError(str(error)) from error

    async def connect(self) -> Connection:
        """Open a connection. Raises OSError."""
        loop = asyncio.get_running_loop()
        addresses = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        connected = await aiohappyeyeballs.start_connection(
            addresses, happy_eyeballs_delay=_NEXT_ADDRESS_AFTER, interleave=1
        )
        try:
            _, connection = await loop.create_connection(
                self.made,
                sock=connected,
                ssl=self._tls,
                server_hostname=self._host if self._tls is not None else None,
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
        if connection not in self._used:
            return
        self._used.discard(connection)
        if connection.may_stay and len(self._idle) < _MOST_IDLE:
            connection.rest(_IDLE_FOR)
            self._idle.append(connection)
        else:
            connection.close()
        self._free.release()


class _Body(httpx2.AsyncByteStream):
    """Be the body of a response; closing it ends the exchange."""

    def __init__(self, direct: Direct, connection: Connection, reading: Reading) -> None:
        self._direct = direct
        self._connection = connection
        self._reading = reading
        self._is_over = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while not self._is_over and (chunk := await self._connection.chunk(self._reading)):
            yield chunk

    async def aclose(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._direct.give_back(self._connection)


def _written(request: httpx2.Request) -> tuple[bytes, bytes | AsyncIterator[bytes]]:
    """Write a request's head and body. Raises LocalProtocolError for what no head can hold."""
    lines = [b"%s %s HTTP/1.1" % (request.method.encode("ascii"), request.url.raw_path)]
    lines += [b"%s: %s" % pair for pair in request.headers.raw]
    if not all(_UNSENDABLE.isdisjoint(line) for line in lines):
        raise httpx2.LocalProtocolError("a header holds what HTTP does not allow")
    lines += [b"", b""]
    stream: Any = request.stream
    if isinstance(stream, httpx2.ByteStream):
        return b"\r\n".join(lines), b"".join(stream)
    told = request.headers.get("transfer-encoding")
    pieces = aiter(stream)
    return b"\r\n".join(lines), _chunked(pieces) if told else pieces


async def _chunked(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for piece in pieces:
        if piece:
            yield b"%x\r\n%s\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"
