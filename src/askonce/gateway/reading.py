"""The reading of one response: a parser written in C, and what to make of its findings."""

from typing import Final

import httptools
import httpx2

_MOST_FRAMING: Final = 1 << 18
"""Bytes of a head, or of framing and trailers between two pieces of a body."""

_CONTINUE: Final = 100
_SWITCHING: Final = 101
_OK: Final = 200
_STOPS: Final = (httptools.HttpParserError, httptools.HttpParserUpgrade)
"""How the parser tells that it reads no further."""


class Reading:
    """Take the bytes of a response; `headers` and `chunks` are what they hold.

    `has_begun` tells that anything came, `has_head` that all before the body is there,
    `is_whole` that nothing is missing, `may_stay` that another response may come after it on the
    same connection, `error` why there will not be more.
    """

    __slots__ = (
        "_contradicts",
        "_ends_with_connection",
        "_framing",
        "_is_head",
        "_parser",
        "chunks",
        "error",
        "has_begun",
        "has_head",
        "headers",
        "is_whole",
        "length",
        "may_stay",
        "status",
    )

    def __init__(self, *, is_head: bool) -> None:
        self._parser = httptools.HttpResponseParser(self)
        # Some servers send a length beside chunks; the chunks count (RFC 9112, section 6.3).
        self._parser.set_dangerous_leniencies(lenient_chunked_length=True)
        self._is_head = is_head
        self._ends_with_connection = False
        self._contradicts = False
        self._framing = 0
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.chunks: list[bytes] = []
        # Bytes of the chunks.
        self.length = 0
        self.has_begun = False
        self.has_head = False
        self.is_whole = False
        self.may_stay = False
        self.error: httpx2.TransportError | None = None

    def feed(self, data: bytes) -> None:
        """Take what has come."""
        self.has_begun = True
        if self.error is not None:
            return
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
        elif self._ends_with_connection and self.error is None:
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
        if not self.has_head and self.error is None:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self.has_head or self.error is not None:
            return
        self.status = self._parser.get_status_code()
        codings = _values(self.headers, b"transfer-encoding")
        if self.status == _SWITCHING or self.status < _CONTINUE:
            self.fail(httpx2.RemoteProtocolError(f"nobody asked for a status of {self.status}"))
        elif codings and [coding.strip().lower() for coding in codings] != [b"chunked"]:
            # It would be passed on as if it were the content.
            self.fail(httpx2.RemoteProtocolError("the coding of the body is not known here"))
        elif self.status < _OK:
            self.headers = []
        else:
            self.has_head = True
            # Then the parser would wait for a body that does not come.
            self.is_whole = self._is_head
            # As RFC 9112 has it in section 6.3.
            lengths = _values(self.headers, b"content-length")
            self._ends_with_connection = not codings and not lengths
            # Who contradicts himself is not trusted with where an answer ends.
            self._contradicts = bool(codings and lengths)

    def on_body(self, body: bytes) -> None:
        if not self.is_whole and self.error is None:
            self._framing = 0
            self.length += len(body)
            self.chunks.append(body)

    def on_message_complete(self) -> None:
        if self.has_head and not self.is_whole and self.error is None:
            self.is_whole = True
            self.may_stay = self._parser.should_keep_alive() and not self._contradicts


def _values(headers: list[tuple[bytes, bytes]], wanted: bytes) -> list[bytes]:
    return [value for name, value in headers if name.lower() == wanted]
