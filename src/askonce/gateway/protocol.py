"""How long and how large a request may be on its way in, and how slowly an answer be read.

uvicorn bounds only the time between two requests. Whatever a request costs here, each costs it:
so a connection just notes when it last made progress, and all are looked at once a second.
"""

import asyncio
from typing import Any, ClassVar, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from askonce.gateway.config import Server

_LOOK_EVERY: Final = 1.0
_STOPS: Final = (httptools.HttpParserError, httptools.HttpParserUpgrade)
"""How the parser tells that it reads no further."""
_OF_UPGRADES: Final = frozenset({b"upgrade", b"http2-settings"})


class BoundedProtocol(HttpToolsProtocol):
    """Close connections that come in too slowly, begin with too much, or do not read on."""

    limits: ClassVar[Server] = Server()
    _all: ClassVar["set[BoundedProtocol]"] = set()
    _look: ClassVar[asyncio.TimerHandle | None] = None

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        # Bytes of all pieces that a head came in, of the first of them, and of what came last.
        self._head = 0
        self._first = 0
        self._last = 0
        # When what is under way began or went on, in the loop's time; 0 if nothing is.
        self._head_since = 0.0
        self._body_since = 0.0
        self._full_since = 0.0
        # Bytes of framing and of trailers since the body went on.
        self._idle = 0
        self._is_refused = False

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
        self._last = len(data)
        if self._head_since:
            self._head += len(data)
        elif self._body_since:
            self._body_since = self.loop.time()
            self._idle += len(data)
        else:
            # Also what is no head yet, an empty line, must become one in time.
            self._head, self._first, self._head_since = len(data), 0, self.loop.time()
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except _STOPS as error:
            self._mend(data, error)
        most = self.limits.max_header_bytes
        if self._is_refused or (self._head_since and self._head - self._first > most):
            if not self.transport.is_closing():
                self.send_400_response("The head of the request is too long.")
        elif self._idle - len(data) > most:
            self.transport.abort()

    def _mend(self, data: bytes, error: Exception) -> None:
        """Go on after the parser has stopped, or refuse what it could not read."""
        if isinstance(error, httptools.HttpParserUpgrade):
            # What follows the head was not read, for it could be of another protocol.
            self._stay(data[error.args[0] :])
        elif not self.transport.is_closing():
            self.send_400_response("Invalid HTTP request received.")

    def _stay(self, rest: bytes) -> None:
        """Go on with HTTP/1.1, as a server may; Java's client asks for another with each first."""
        method = self.parser.get_method()
        if method == b"CONNECT" or b"websocket" in (self._get_upgrade() or b""):
            self.send_400_response("This gateway serves neither tunnels nor websockets.")
            return
        head = [b"%s %s HTTP/%s" % (method, self.url, self.parser.get_http_version().encode())]
        for name, value in self.headers:
            told = value
            if name == b"connection":
                parts = [part.strip() for part in value.split(b",")]
                told = b", ".join(part for part in parts if part.lower() not in _OF_UPGRADES)
            if name not in _OF_UPGRADES:
                head.append(name + b": " + told)
        self.parser = httptools.HttpRequestParser(self)
        # As the server has it: what comes after a request that closes is not even looked at.
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        whole = b"\r\n".join([*head, b"", rest])
        try:
            self.parser.feed_data(whole)
        except _STOPS as error:
            self._mend(whole, error)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head = self._first = self._last
        self._head_since = self.loop.time()

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers, which come after the body, are none of the headers.
        if not self._head_since:
            return
        # As the server has it, whose own method would cost each header a call more.
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._head > self.limits.max_header_bytes:
            # Some of these bytes may belong to what was before or comes after.
            length = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            self._is_refused = length > self.limits.max_header_bytes
        if self._is_refused or self.parser.should_upgrade():
            return
        self._idle = 0
        self._body_since, self._head_since = self._head_since, 0.0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self._is_refused:
            self._idle = 0
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._is_refused or self.parser.should_upgrade():
            return
        self._body_since = 0.0
        self._idle = 0
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
                (0.0 if self.flow.read_paused else self._head_since, limits.header_timeout),
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
