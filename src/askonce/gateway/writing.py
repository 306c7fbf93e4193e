"""The writing of one request: its head, and its body as it goes out."""

import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from typing import Any, Final

import httpx2

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE: Final = re.compile(_TOKEN + rb" [\x21-\x7e]+ HTTP/1\.1")
_NAME: Final = re.compile(_TOKEN)
_VALUE: Final = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*")
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")


def written(request: httpx2.Request) -> tuple[bytes, bytes | AsyncGenerator[bytes, None]]:
    """Write a request's head and body.

    Raises LocalProtocolError for what a head cannot hold, and for a body that is not as long as
    the head tells: whoever reads it would take the rest for another request.
    """
    fields = request.headers.raw
    first = b"%s %s HTTP/1.1" % (request.method.encode("utf-8"), request.url.raw_path)
    if not _REQUEST_LINE.fullmatch(first) or not all(
        _NAME.fullmatch(name) and _VALUE.fullmatch(value) for name, value in fields
    ):
        raise httpx2.LocalProtocolError("the head holds what HTTP does not allow")
    head = b"\r\n".join([first, *[b"%s: %s" % pair for pair in fields], b"", b""])
    if sum(name.lower() == b"host" for name, _ in fields) != 1:
        raise httpx2.LocalProtocolError("the host is not clear")
    codings = [value for name, value in fields if name.lower() == b"transfer-encoding"]
    lengths = [value for name, value in fields if name.lower() == b"content-length"]
    stream: Any = request.stream
    if codings:
        if lengths or [coding.lower() for coding in codings] != [b"chunked"]:
            raise httpx2.LocalProtocolError("the framing of the body is not clear")
        return head, _chunked(stream)
    if len(lengths) > 1 or not all(map(_LENGTH.fullmatch, lengths)):
        raise httpx2.LocalProtocolError("the length of the body is not clear")
    length = int(lengths[0]) if lengths else 0
    if not isinstance(stream, httpx2.ByteStream):
        return head, _exactly(length, stream)
    body = b"".join(stream)
    if len(body) != length:
        raise httpx2.LocalProtocolError("the body is not as long as its content-length")
    return head, body


async def _chunked(stream: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
    async with _walking(stream) as pieces:
        async for piece in pieces:
            if piece:
                yield b"%x\r\n%s\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


async def _exactly(length: int, stream: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
    async with _walking(stream) as pieces:
        async for piece in pieces:
            length -= len(piece)
            if length < 0:
                raise httpx2.LocalProtocolError("the body is longer than its content-length")
            yield piece
    if length:
        raise httpx2.LocalProtocolError("the body is shorter than its content-length")


@contextlib.asynccontextmanager
async def _walking(
    stream: AsyncIterable[bytes],
) -> AsyncGenerator[AsyncIterator[bytes], None]:
    """Iterate, and end the iteration at once where it is left early."""
    pieces = aiter(stream)
    try:
        yield pieces
    finally:
        if isinstance(pieces, AsyncGenerator):
            await pieces.aclose()
