"""The side of the caller: reading what comes, sending what goes, noticing that nobody is there."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Final

from askonce.gateway.config import Server
from askonce.gateway.refusals import RefusedError
from askonce.gateway.remembering import Asked

_EVENT_STREAM: Final = b"text/event-stream"

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class GoneError(Exception):
    """Say that the caller went away before it had its answer."""


class Client:
    """Hold one request's connection, and of what has come over it the `first` message.

    `status` is that of the answer, 0 before it begins; `sent` counts the bytes of its body;
    `is_events` tells whether it is a stream of events. `asked` is the whole request, if it has
    come at once.
    """

    __slots__ = (
        "_first",
        "_limits",
        "_receive",
        "_send",
        "_watcher",
        "asked",
        "has_ended",
        "headers",
        "is_events",
        "is_gone",
        "scope",
        "sent",
        "status",
    )

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        limits: Server,
        *,
        first: Message | None = None,
    ) -> None:
        self.scope = scope
        self.headers: list[tuple[bytes, bytes]] = scope["headers"]
        self.asked: Asked | None = None
        self._first = first
        self.status = 0
        self.sent = 0
        self.is_events = False
        self.is_gone = False
        self.has_ended = False
        self._receive = receive
        self._send = send
        self._limits = limits
        self._watcher: asyncio.Task[None] | None = None

    async def peek(self) -> Message:
        """Give the first message, which can be read again. Raises GoneError."""
        self._first = await self._next()
        return self._first

    async def body(self) -> bytes:
        """Read the whole body. Raises RefusedError for one too long, GoneError."""
        message = await self._next()
        if not message.get("more_body"):
            content: bytes = message.get("body", b"")
            return self._measured(content, len(content))
        chunks = [message.get("body", b"")]
        length = len(chunks[0])
        while message.get("more_body"):
            message = await self._next()
            chunks.append(message.get("body", b""))
            length += len(chunks[-1])
            self._measured(b"", length)
        return b"".join(chunks)

    async def incoming(self) -> AsyncIterator[bytes]:
        """Give the body piece by piece; raises as `body` does."""
        length = 0
        while True:
            message = await self._next()
            chunk = message.get("body", b"")
            length += len(chunk)
            self._measured(b"", length)
            if chunk:
                yield chunk
            if not message.get("more_body"):
                return

    def _measured(self, content: bytes, length: int) -> bytes:
        if length > self._limits.max_body_bytes:
            raise RefusedError(
                413,
                f"the body is longer than {self._limits.max_body_bytes} bytes, the most that this "
                "gateway takes (max_body_bytes)",
                "request_too_large",
            )
        return content

    async def _next(self) -> Message:
        message, self._first = self._first, None
        if message is None:
            message = await self._receive()
        if message["type"] == "http.disconnect":
            self.is_gone = True
            raise GoneError
        return message

    def watch(self, then: Callable[[], object]) -> None:
        """Call `then` once if the caller goes away, from now to the end; its body has been read."""
        if self._watcher is None:
            self._watcher = asyncio.ensure_future(self._watch(then))

    async def _watch(self, then: Callable[[], object]) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self.has_ended:
            self.is_gone = True
            then()

    async def begin(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Send the head of the answer."""
        self.status = status
        self.is_events = any(
            name == b"content-type" and value.startswith(_EVENT_STREAM) for name, value in headers
        )
        await self._out({"type": "http.response.start", "status": status, "headers": headers})

    async def give(self, chunk: bytes, *, more: bool) -> None:
        """Send a piece of the answer; nothing is held back."""
        self.sent += len(chunk)
        self.has_ended = not more
        await self._out({"type": "http.response.body", "body": chunk, "more_body": more})

    async def _out(self, message: Message) -> None:
        if self.is_gone:
            return
        try:
            await self._send(message)
        except OSError:
            self.is_gone = True
            raise GoneError from None

    async def reply(
        self, status: int, headers: Sequence[tuple[bytes, bytes]], chunks: Sequence[bytes]
    ) -> None:
        """Send a whole answer. Raises GoneError."""
        self.status = status
        send = self._send
        try:
            await send({"type": "http.response.start", "status": status, "headers": headers})
            last = len(chunks) - 1
            for place, chunk in enumerate(chunks):
                self.sent += len(chunk)
                more = place < last
                self.has_ended = not more
                await send({"type": "http.response.body", "body": chunk, "more_body": more})
        except OSError:
            self.is_gone = True
            raise GoneError from None

    def end(self) -> None:
        """Watch no longer."""
        if self._watcher is not None:
            self._watcher.cancel()
