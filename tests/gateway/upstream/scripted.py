"""A provider over real sockets in this event loop, which follows a script; and how it is asked."""

import asyncio
import contextlib
import re
import socket
import struct

import httpx2

OK = b"HTTP/1.1 200 OK\r\n"
BIG = b"0123456789abcdef" * (1 << 16)
"""1 MiB."""


def answer(body=b"well", *fields):
    """Write a response with these header fields."""
    lines = [b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *fields, b"", body]
    return b"\r\n".join(lines)


class Peer:
    """Be the provider's side of a connection."""

    def __init__(self, reader, writer, number):
        self.reader = reader
        self.writer = writer
        self.number = number

    async def head(self):
        """Read a head; raises IncompleteReadError when there is none any more."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def asked(self):
        """Read a request: its head, and its body as it was framed."""
        head = await self.head()
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)\r\n", head)
        if length:
            return head, await self.reader.readexactly(int(length[1]))
        body = b""
        if b"transfer-encoding: chunked" in head.lower():
            while not body.endswith(b"\r\n0\r\n\r\n") and body != b"0\r\n\r\n":
                size = await self.reader.readuntil(b"\r\n")
                body += size + await self.reader.readexactly(int(size, 16) + 2)
        return head, body

    async def say(self, *pieces):
        """Send pieces, each by itself."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0)

    async def gone(self):
        """Wait until the other side has closed the connection; give what it sent before."""
        with contextlib.suppress(ConnectionError):
            return await self.reader.read()
        return b""

    def end(self):
        """Close the connection."""
        self.writer.close()

    def reset(self):
        """Close the connection as a crashed server does."""
        connection = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


async def well(peer):
    while True:
        await peer.asked()
        await peer.say(answer())


async def silent(peer):
    await peer.gone()


class Scripted:
    """Run a script for each connection that comes in."""

    def __init__(self, script, host, tls):
        self._script = script
        self._host = host
        self._tls = tls
        self._tasks = set()
        self.peers = []
        self.failures = []

    async def start(self):
        self._server = await asyncio.start_server(self._serve, self._host, 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def _serve(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        peer = Peer(reader, writer, len(self.peers))
        self.peers.append(peer)
        try:
            await self._script(peer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        except Exception as error:
            self.failures.append(error)
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(Exception, asyncio.CancelledError):
                await writer.wait_closed()

    async def stop(self):
        self._server.close()
        for task in [*self._tasks]:
            task.cancel()
        while self._tasks:
            await asyncio.sleep(0)
        await self._server.wait_closed()
        assert not self.failures, self.failures


def question(direct, method="POST", *, content=b"", headers=(), path="/v1/chat", **more):
    """Make a request; a body that is no bytes is streamed."""
    host = f"[{direct._host}]" if ":" in direct._host else direct._host
    fields = [(b"host", host.encode()), *headers]
    if isinstance(content, bytes):
        if content and not more.pop("is_unframed", False):
            fields.append((b"content-length", b"%d" % len(content)))
        stream = httpx2.ByteStream(content)
    else:
        stream = Streamed(content)
    return httpx2.Request(
        method, f"http://{host}:{direct._port}{path}", headers=fields, stream=stream, **more
    )


class Streamed(httpx2.AsyncByteStream):
    """Be a body that comes from an iterator; `is_closed` tells that its iteration has ended."""

    def __init__(self, pieces):
        self._pieces = pieces
        self.is_closed = False
        self.given = 0

    async def __aiter__(self):
        try:
            async for piece in self._pieces:
                self.given += len(piece)
                yield piece
        finally:
            self.is_closed = True
            await self._pieces.aclose()


async def ask(direct, *told, **more):
    """Ask and read the whole answer."""
    return await heard(await direct.handle_async_request(question(direct, *told, **more)))


async def heard(response):
    """Read all of a response, and let go of it."""
    try:
        return b"".join([chunk async for chunk in response.stream])
    finally:
        await response.aclose()


async def until(condition):
    """Let others go on until something is so."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)
