"""What the transports of both colours decide alike, without waiting."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any, Final

from askonce.http import libraries
from askonce.http.answer import KEPT_HEADERS, Answer
from askonce.http.control import OWN_PREFIX
from askonce.http.exchange import Exchange
from askonce.http.flows import Found
from askonce.http.identity import Origin
from askonce.wire import Json, write_body

CACHE: Final = "askonce"
"""Our name in `Cache-Status` (RFC 9211)."""

FAILURES: Final = frozenset({408, 429, 500, 502, 503, 504, 529})
"""Statuses for which a stale answer may stand in (RFC 5861, and what the providers add)."""

_TYPES: Final[Mapping[bool, str]] = {
    False: "application/json",
    True: "text/event-stream; charset=utf-8",
}
_FOR_BODIES: Final = frozenset({b"content-length", b"transfer-encoding"})

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
        request.headers.multi_items(),
    )


def request_of(method: str, url: str, headers: Mapping[str, str], body: Json | bytes | str) -> Any:
    """Make a request as the SDKs would."""
    content = write_body(body) if isinstance(body, dict) else body
    return libraries.find().Request(method, url, headers=dict(headers), content=content)


def headers_passed_on(
    headers: Any, *, concerned: bool, of_body: bool = True
) -> list[tuple[bytes, bytes]]:
    """Give the headers that go to the provider: not those that are meant for the cache.

    `of_body` keeps those that belong to the body's length.
    """
    own = OWN_PREFIX.encode()
    return [
        (name, value)
        for name, value in headers.raw
        if not (low := name.lower()).startswith(own)
        and not (concerned and low == b"cache-control")
        and (of_body or low not in _FOR_BODIES)
    ]


def reply_of(exchange: Exchange, found: Found, *, now: float) -> tuple[Headers, list[bytes]]:
    """Give headers and chunks of a kept answer, in the presentation that was asked for.

    Raises AnswerError or InputError for an answer that cannot be presented so.
    """
    answer = found.answer
    if exchange.wants_stream:
        chunks = answer.events(exchange.wire, usage=exchange.wants_usage)
        length = []
    else:
        chunks = [answer.body(exchange.wire)]
        length = [("content-length", str(len(chunks[0])))]
    return [
        ("content-type", _TYPES[exchange.wants_stream]),
        *length,
        *answer.headers.items(),
        ("age", str(max(0, int(now - answer.created)))),
        ("cache-status", _hit(found, now=now)),
    ], chunks


def _hit(found: Found, *, now: float) -> str:
    return f"{CACHE}; fwd=miss; collapsed" if found.collapsed else hit_status(found.answer, now=now)


def hit_status(answer: Answer, *, now: float) -> str:
    """Write the `Cache-Status` of an answer out of the store."""
    if answer.expires == float("inf"):
        return f"{CACHE}; hit"
    return f"{CACHE}; hit; ttl={int(answer.expires - now)}"


def forwarded(reason: str, *, detail: str = "") -> str:
    """Write a `Cache-Status` for what was passed on; the reason is one of RFC 9211's."""
    status = f"{CACHE}; fwd={reason}"
    if detail:
        quoted = detail.encode("ascii", "replace").decode().replace("\\", "'").replace('"', "'")
        printable = "".join(letter if letter.isprintable() else " " for letter in quoted)
        status += f'; detail="{printable}"'
    return status


def add_status(response: Any, status: str) -> None:
    """Add our `Cache-Status` to those of caches nearer to the provider."""
    nearer = response.headers.get("cache-status")
    response.headers["cache-status"] = f"{nearer}, {status}" if nearer else status


def not_cached(detail: str = "") -> tuple[int, Headers, bytes]:
    """Give the answer to `only-if-cached` where nothing is (RFC 9111, section 5.2.1.7)."""
    message = "no answer to this request is in the cache, and only-if-cached was asked for"
    if detail:
        message += f"; it is not cached because {detail}"
    return _refusal(504, message, "only_if_cached", f"{CACHE}; detail=only-if-cached")


def not_understood(error: Exception) -> tuple[int, Headers, bytes]:
    """Give the answer to a request whose headers ask the cache for what it does not know."""
    return _refusal(
        400, f"askonce: {error}", "invalid_cache_request", f"{CACHE}; detail=not-understood"
    )


def _refusal(status: int, message: str, code: str, cache_status: str) -> tuple[int, Headers, bytes]:
    body = write_body({"error": {"message": message, "type": code, "code": code}})
    headers = [
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
        ("cache-status", cache_status),
        # The SDKs would try again, and wait between tries.
        ("x-should-retry", "false"),
    ]
    return status, headers, body


def is_events(headers: Mapping[str, str]) -> bool:
    """Tell whether an answer comes as server-sent events."""
    return headers.get("content-type", "").lower().startswith("text/event-stream")


def is_encoded(headers: Mapping[str, str]) -> bool:
    """Tell whether a body is compressed."""
    return headers.get("content-encoding", "").strip().lower() not in ("", "identity")


def kept_headers(headers: Any) -> dict[str, str]:
    """Give those of a response's headers that are kept, if any header can hold them."""
    return {
        name.lower(): value
        for name, value in headers.multi_items()
        if name.lower() in KEPT_HEADERS
        and value.isascii()
        and value.isprintable()
        # Which page may read an answer is said to that page alone.
        and (name.lower() != "access-control-allow-origin" or value == "*")
    }


def may_stand_in(stale: Answer, exchange: Exchange, *, now: float) -> bool:
    """Tell whether a stale answer may be given because the provider failed."""
    return now < stale.expires + exchange.policy.stale_if_error


def without_own(library: ModuleType, request: Any) -> Any:
    """Give a request that is none of ours as it is, but for headers that only we understand."""
    if not any(name.startswith(OWN_PREFIX) for name in request.headers):
        return request
    return library.Request(
        request.method,
        request.url,
        headers=headers_passed_on(request.headers, concerned=False),
        stream=request.stream,
        extensions=request.extensions,
    )
