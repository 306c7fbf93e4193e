"""One connection to an upstream, which carries one exchange of HTTP/1.1 after the other."""

import asyncio
import select
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Final

import httpx2

from askonce.gateway.reading import Reading

_MOST_WAITING: Final = 1 << 18
"""Bytes of a body that wait for their reader before no more are read."""

_PIECE: Final = 1 << 16


class Connection(asyncio.Protocol):
    """Send requests and read what is answered; all fail as those of httpx2 do.

    `timeout` is how many seconds may pass before something can be read, or written. `on_lost`
    is called when the connection has ended.
    """

    def __init__(self, timeout: float, on_lost: Callable[["Connection"], object]) -> None:
        self._timeout = timeout
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self._reading: Reading | None = None
        self._is_sent = False
        self._has_ended = False
        self._is_lost = False
        self._is_paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._rest: asyncio.TimerHandle | None = None

    async def ask(
        self, method: str, head: bytes, body: bytes | AsyncGenerator[bytes, None]
    ) -> Reading:
        """Send a request and wait for the head of its response.

        `head` and `body` are as they go out. Raises TransportError.
        """
        reading = self._reading = Reading(is_head=method == "HEAD")
        self._is_sent = False
        if not self.is_open:
            raise httpx2.ReadError("the connection was lost")
        if isinstance(body, bytes):
            self._transport.write(head + body[:_PIECE])
            self._is_sent = len(body) <= _PIECE or await self._send_rest(reading, body)
        else:
            self._transport.write(head)
            self._is_sent = await self._send_pieces(reading, body)
        while not reading.has_head:
            await self._more(reading)
        return reading

    async def _send_rest(self, reading: Reading, body: bytes) -> bool:
        for start in range(_PIECE, len(body), _PIECE):
            if not await self._send(reading, body[start : start + _PIECE]):
                return False
        return True

    async def _send_pieces(self, reading: Reading, body: AsyncGenerator[bytes, None]) -> bool:
        async with aclosing(body) as pieces:
            async for piece in pieces:
                if not await self._send(reading, piece):
                    return False
        return True

    async def _send(self, reading: Reading, piece: bytes) -> bool:
        """Write when there is room; tell whether that was of any use.

        Who answers before having heard all, or is no longer there, need not hear the rest.
        """
        if self._room is not None:
            timer = self._loop.call_later(self._timeout, self._late, httpx2.WriteTimeout)
            try:
                await self._room
            finally:
                timer.cancel()
        if reading.has_head or reading.error is not None:
            return False
        self._transport.write(piece)
        return True

    async def chunk(self, reading: Reading) -> bytes:
        """Give all of the body that has come since, nothing at its end. Raises TransportError."""
        while not reading.chunks:
            if reading.is_whole:
                return b""
            await self._more(reading)
        if self._is_paused and not self._is_lost:
            self._is_paused = False
            self._transport.resume_reading()
        return reading.take()

    async def _more(self, reading: Reading) -> None:
        """Wait until something has come."""
        if reading.error is not None:
            raise reading.error
        waiter = self._waiter = self._loop.create_future()
        timer = self._loop.call_later(self._timeout, self._late, httpx2.ReadTimeout)
        try:
            await waiter
        finally:
            timer.cancel()

    def _late(self, kind: type[httpx2.TimeoutException]) -> None:
        if self._reading is not None:
            self._reading.fail(kind("nothing came or went in time"))
        self.close()
        self._tell()

    def _tell(self) -> None:
        """Let go on whoever waits for what has come, or has been in vain."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        reading = self._reading
        is_in_vain = reading is None or reading.has_head or reading.error is not None
        if is_in_vain and self._room is not None and not self._room.done():
            self._room.set_result(None)

    @property
    def may_stay(self) -> bool:
        """Tell whether another exchange may follow the last one."""
        reading = self._reading
        # What waits here, in either direction, would get into the next exchange.
        is_clear = self._is_sent and self._room is None and not self._is_paused
        return reading is not None and reading.may_stay and is_clear and self.is_open

    @property
    def has_begun(self) -> bool:
        """Tell whether anything of an answer has come."""
        return self._reading is not None and self._reading.has_begun

    @property
    def is_open(self) -> bool:
        """Tell whether it can be written to, as far as is known here."""
        return not self._has_ended and not self._transport.is_closing()

    @property
    def is_silent(self) -> bool:
        """Tell whether nothing has come that the event loop has not handed on yet."""
        told = self._transport.get_extra_info("socket")
        if told is None:
            return True
        if sys.platform == "win32":
            return not select.select([told.fileno()], [], [], 0)[0]
        # Unlike `select`, it takes descriptors of any number.
        polling = select.poll()
        polling.register(told.fileno(), select.POLLIN)
        return not polling.poll(0)

    def rest(self, seconds: float) -> None:
        """Stay open for so long without an exchange."""
        self._reading = None
        self._rest = self._loop.call_later(seconds, self.close)

    def wake(self) -> None:
        """Rest no longer."""
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None

    def close(self) -> None:
        """End the connection at once."""
        self.wake()
        if self._reading is not None:
            self._reading.fail(httpx2.ReadError("the connection was closed"))
        if not self._is_lost:
            self._transport.abort()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        reading = self._reading
        if reading is None:
            # Nothing was asked: it would be read as the answer to what is asked next.
            self.close()
            return
        reading.feed(data)
        if reading.error is not None:
            self.close()
        elif reading.length > _MOST_WAITING and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()
        self._tell()

    def eof_received(self) -> None:
        # Over TLS, this comes before the transport tells that it is closing.
        self._has_ended = True

    def connection_lost(self, exc: Exception | None) -> None:
        self._has_ended = True
        self._is_lost = True
        self.wake()
        if self._reading is not None:
            self._reading.end(exc)
        self._tell()
        self._on_lost(self)

    def pause_writing(self) -> None:
        self._room = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        self._room = None
