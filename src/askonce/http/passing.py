"""What the transports of both colours decide alike, without waiting."""

import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final

from askonce.http.answer import Answer, headers_kept
from askonce.http.exchange import Batch, Exchange
from askonce.http.flows import Found
from askonce.http.identity import Origin
from askonce.wire import Json, openai_embeddings, write_body

CACHE: Final = "askonce"
"""Our name in `Cache-Status` (RFC 9211)."""

FAILURES: Final = frozenset({408, 429, 500, 502, 503, 504, 529})
"""Statuses for which a stale answer may stand in (RFC 5861, and what the providers add)."""

Headers = list[tuple[str, str]]


def origin_of(request: Any) -> Origin:
    """Take apart a request of httpx or httpx2."""
    url = request.url
    return Origin(
        request.method,
        url.scheme,
        url.netloc.decode("ascii"),
        url.raw_path.decode("ascii").partition("?")[0],
        url.query.decode("ascii"),
        [(name.lower(), value) for name, value in request.headers.multi_items()],
    )


def reply_of(exchange: Exchange, found: Found, *, now: float) -> tuple[Headers, list[bytes]]:
    """Give headers and chunks of a kept answer, in the presentation that was asked for.

    Raises AnswerError or InputError for an answer that cannot be presented so.
    """
    answer = found.answer
    age = max(0, int(now - answer.created))
    if exchange.wants_stream:
        chunks = answer.events(exchange.wire, usage=exchange.wants_usage)
        headers = [("content-type", answer.content_type("events"))]
    else:
        chunks = [answer.body(exchange.wire)]
        headers = [
            ("content-type", answer.content_type("body")),
            ("content-length", str(len(chunks[0]))),
        ]
    status = f"{CACHE}; hit"
    if answer.expires != float("inf"):
        status += f"; ttl={int(answer.expires - now)}"
    if found.collapsed:
        status += "; collapsed"
    headers += [*answer.headers.items(), ("age", str(age)), ("cache-status", status)]
    return headers, chunks


def forwarded(reason: str, *, stored: bool | None = None, detail: str = "") -> str:
    """Write a `Cache-Status` for what was passed on; the reason is one of RFC 9211's."""
    status = f"{CACHE}; fwd={reason}"
    if stored:
        status += "; stored"
    if detail:
        quoted = detail.encode("ascii", "replace").decode().replace("\\", "'").replace('"', "'")
        status += f'; detail="{quoted}"'
    return status


def not_cached() -> tuple[int, Headers, bytes]:
    """Give the answer to `only-if-cached` where nothing is (RFC 9111, section 5.2.1.7)."""
    message = "no answer to this request is in the cache, and only-if-cached was asked for"
    error = {"error": {"message": message, "type": "only_if_cached", "code": "only_if_cached"}}
    body = write_body(error)
    headers = [
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
        ("cache-status", forwarded("miss", detail="only-if-cached")),
        # The SDKs would try again, and wait between tries.
        ("x-should-retry", "false"),
    ]
    return 504, headers, body


def is_events(headers: Mapping[str, str]) -> bool:
    """Tell whether an answer comes as server-sent events."""
    return headers.get("content-type", "").startswith("text/event-stream")


def kept_headers(headers: Any) -> dict[str, str]:
    """Give those of a response's headers that are kept."""
    return headers_kept((name.lower(), value) for name, value in headers.multi_items())


def may_stand_in(stale: Answer | None, exchange: Exchange, *, now: float) -> bool:
    """Tell whether a stale answer may be given because the provider failed."""
    return stale is not None and now < stale.expires + exchange.policy.stale_if_error


def decoder_of(encoding: str) -> Callable[[bytes], bytes] | None:
    """Give what undoes a content encoding piece by piece; None if we cannot."""
    match encoding.strip().lower():
        case "" | "identity":
            return lambda chunk: chunk
        case "gzip" | "x-gzip":
            return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress
        case "deflate":
            return zlib.decompressobj().decompress
        case _:
            return None


class Upstream:
    """Gather what the provider answered for parts of a batch of embeddings."""

    def __init__(self, batch: Batch, content: bytes) -> None:
        self.responses: list[Json] = []
        self.headers: dict[str, str] = {}
        self._batch = batch
        self.content = content

    def content_for(self, places: list[int]) -> bytes:
        """Write the request for some inputs; the caller's own bytes for all of them."""
        if len(places) == len(self._batch.inputs.positions):
            return self.content
        return write_body(openai_embeddings.request_for(self._batch.body, places))

    def reply(self, rows: Any) -> tuple[Headers, bytes]:
        """Write the answer to the whole batch."""
        body = self._batch.body
        model = self._batch.subject.model
        for response in self.responses:
            model = str(response.get("model") or model)
        content = write_body(
            openai_embeddings.respond(
                rows,
                openai_embeddings.encoding(body),
                model=model,
                counts=openai_embeddings.counts_of(self.responses),
            )
        )
        status = forwarded("partial") if self.responses else f"{CACHE}; hit"
        headers = [
            ("content-type", "application/json"),
            ("content-length", str(len(content))),
            *self.headers.items(),
            ("cache-status", status),
        ]
        return headers, content
