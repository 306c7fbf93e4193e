"""The reading of one response: a parser written in C, and what to make of its findings."""

from typing import Final

import httptools
import httpx2

_MOST_FRAMING: Final = 1 << 18
"""Bytes of a head, or of framing and trailers between two pieces of a body."""

_OK: Final = 200
_SWITCHING: Final = 101
_STOPS: Final = (httptools.HttpParserError, httptools.HttpParserUpgrade)
"""How the parser tells that it reads no further."""


class Reading:
    """Take the bytes of a response; `headers` and `chunks` are what they hold.

    `has_head` tells that all before the body is there, `is_whole` that nothing is missing,
    `may_stay` that another response may come after it on the same connection, `error` why there
    will not be more.
    """

    __slots__ = (
        "_ends_with_connection",
        "_framing",
        "_is_head",
        "_parser",
        "chunks",
        "error",
        "has_head",
        "headers",
        "is_whole",
        "length",
        "may_stay",
        "status",
    )

    def __init__(self, *, is_head: bool) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._is_head = is_head
        self._ends_with_connection = False
        self._framing = 0
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.chunks: list[bytes] = []
        # Bytes of the chunks.
        self.length = 0
        self.has_head = False
        self.is_whole = False
        self.may_stay = False
        self.error: httpx2.TransportError | None = None

    def feed(self, data: bytes) -> None:
        """Take what has come."""
        self._framing += len(data)
        try:
            self._parser.feed_data(data)
        except _STOPS as error:
            self.fail(httpx2.RemoteProtocolError(f"what came is not HTTP: {error}"))
        if self._framing > _MOST_FRAMING:
            self.fail(httpx2.RemoteProtocolError("the head or the framing is too long"))

    def end(self, error: Exception | None) -> None:
        """Note that nothing comes any more."""
        if error is not None:
            self.fail(httpx2.ReadError(f"the connection was lost: {error}"))
        elif self._ends_with_connection:
            self.is_whole = True
        else:
            self.fail(httpx2.RemoteProtocolError("the connection was closed too early"))
        self.may_stay = False

    def fail(self, error: httpx2.TransportError) -> None:
        """Read no more for this reason, which is none to doubt what is whole."""
        self.may_stay = False
        if not self.is_whole and self.error is None:
            self.error = error

    def take(self) -> bytes:
        """Give all of the body that has come since."""
        chunks, self.chunks, self.length = self.chunks, [], 0
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self.is_whole:
            # More came than the answer: it would be read as the one to what is asked next.
            self.may_stay = False

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers, which come after the body, are none of the headers.
        if not self.has_head:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self.has_head:
            return
        self.status = self._parser.get_status_code()
        if self.status == _SWITCHING:
            self.fail(httpx2.RemoteProtocolError("nobody asked for another protocol"))
        elif self.status < _OK:
            self.headers = []
        else:
            self.has_head = True
            # Then the parser would wait for a body that does not come.
            self.is_whole = self._is_head
            self._ends_with_connection = _has_no_length(self.headers)

    def on_body(self, body: bytes) -> None:
        if not self.is_whole:
            self._framing = 0
            self.length += len(body)
            self.chunks.append(body)

    def on_message_complete(self) -> None:
        if self.has_head and not self.is_whole:
            self.is_whole = True
            self.may_stay = self._parser.should_keep_alive()


def _has_no_length(headers: list[tuple[bytes, bytes]]) -> bool:
    """Tell whether a body ends where its connection does (RFC 9112, section 6.3)."""
    has_length = False
    codings = b""
    for name, value in headers:
        match name.lower():
            case b"content-length":
                has_length = True
            case b"transfer-encoding":
                codings = value
            case _:
                pass
    if codings:
        return not codings.rstrip().lower().endswith(b"chunked")
    return not has_length
