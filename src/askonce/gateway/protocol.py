"""How long and how large a request may be on its way in, and how slowly an answer be read.

uvicorn bounds only the time between two requests. Whatever a request costs here, each costs it:
so a connection just notes when it last made progress, and all are looked at once a second.
"""

import asyncio
from typing import Any, ClassVar, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from askonce.gateway.config import Server

_LOOK_EVERY: Final = 1.0


class BoundedProtocol(HttpToolsProtocol):
    """Close connections that come in too slowly, begin with too much, or do not read on."""

    limits: ClassVar[Server] = Server()
    _all: ClassVar["set[BoundedProtocol]"] = set()
    _look: ClassVar[asyncio.TimerHandle | None] = None

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._head = 0
        # When what is under way began or went on, in the loop's time; 0 if nothing is.
        self._head_since = 0.0
        self._body_since = 0.0
        self._full_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_since = self.loop.time()
        self._all.add(self)
        if BoundedProtocol._look is None:
            BoundedProtocol._look = self.loop.call_later(_LOOK_EVERY, self._look_at_all, self.loop)

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._head_since:
            self._head += len(data)
        elif self._body_since:
            self._body_since = self.loop.time()
        super().data_received(data)
        if self._head > self.limits.max_header_bytes and not self.transport.is_closing():
            self.send_400_response("The head of the request is too long.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head = 0
        self._head_since = self.loop.time()

    def on_headers_complete(self) -> None:
        if self._head > self.limits.max_header_bytes:
            # Some of the bytes that came with its end may belong to the body.
            self._head = sum(len(name) + len(value) for name, value in self.headers)
            self._head += len(self.url)
            if self._head > self.limits.max_header_bytes:
                return
        self._head = 0
        self._body_since, self._head_since = self._head_since, 0.0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._body_since = 0.0
        super().on_message_complete()

    def pause_writing(self) -> None:
        self._full_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._full_since = 0.0
        super().resume_writing()

    def is_late(self, now: float) -> bool:
        """Tell whether it has made no progress for too long, at a time of the loop."""
        limits = self.limits
        return any(
            since and now - since > most
            for since, most in (
                (self._head_since, limits.header_timeout),
                (0.0 if self.flow.read_paused else self._body_since, limits.body_timeout),
                (self._full_since, limits.write_timeout),
            )
        )

    @classmethod
    def _look_at_all(cls, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for one in list(cls._all):
            if one.is_late(now):
                one.transport.abort()
        cls._look = loop.call_later(_LOOK_EVERY, cls._look_at_all, loop) if cls._all else None
