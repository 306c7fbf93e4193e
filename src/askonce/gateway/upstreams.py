"""The way to the providers: pooled connections, and what of a request and a response passes."""

import functools
import os
import re
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Final

import httpx2

from askonce.gateway.config import Upstream
from askonce.gateway.direct import Direct
from askonce.http.control import OWN_PREFIX
from askonce.http.identity import Origin, is_credential, without_credentials
from askonce.observe.opentelemetry import inject

Headers = list[tuple[bytes, bytes]]

_OWN: Final = OWN_PREFIX.encode()

HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Headers between two neighbours (RFC 9110, section 7.6.1), besides those that Connection names."""

_OF_THE_HOST: Final = frozenset(
    {
        b"alt-svc",
        b"clear-site-data",
        b"nel",
        b"report-to",
        b"reporting-endpoints",
        b"strict-transport-security",
        # It is written anew by our own server, once.
        b"date",
    }
)
"""What a provider says of the host that it is, which is not the one that the caller has asked."""

_COOKIE: Final = frozenset({b"set-cookie"})
_OF_ACCOUNT: Final = frozenset(
    {b"openai-organization", b"openai-project", b"anthropic-organization-id"}
)

_NOWHERE: Final = httpx2.MockTransport(lambda _: httpx2.Response(200))
with httpx2.Client(trust_env=False, transport=_NOWHERE) as _client:
    _CODINGS: Final = frozenset(
        coding.strip().encode("ascii")
        for coding in _client.headers["accept-encoding"].lower().split(",")
    )
"""The content codings that can be undone here, which depends on what is installed."""

_SET_ANEW: Final = frozenset({b"host", b"expect"})
_BODILESS: Final = frozenset({204, 304})
_UNSENDABLE: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class Way:
    """Reach one upstream over connections that are kept open.

    `passes_credentials`: it gets those of the caller, unless it has one of its own. `traces`: it
    gets the current span as its parent.
    """

    def __init__(
        self, upstream: Upstream, *, passes_credentials: bool = True, traces: bool = False
    ) -> None:
        self._traces = traces
        self.upstream = upstream
        scheme, _, rest = upstream.base_url.partition("://")
        self.scheme, self.authority = scheme, rest.partition("/")[0].lower()
        self.transport = _transport(upstream)
        self._timeouts = {
            "timeout": {
                "connect": upstream.connect_timeout,
                "read": upstream.timeout,
                "write": upstream.timeout,
                "pool": upstream.connect_timeout,
            }
        }
        self._added = {
            name.lower().encode("latin-1"): value.encode("latin-1")
            for name, value in upstream.headers.items()
        }
        if upstream.credential_env:
            secret = os.environ[upstream.credential_env]
            name = upstream.credential_header.lower()
            told = f"Bearer {secret}" if name == "authorization" else secret
            self._added[name.encode("latin-1")] = told.encode("latin-1")
        self.upstream_marks = frozenset(mark.encode("latin-1") for mark in upstream.marks)
        self.strips = bool(upstream.credential_env) or not passes_credentials

    def origin(
        self, method: str, path: str, query: str, headers: Iterable[tuple[bytes, bytes]]
    ) -> Origin:
        """Give a request as the cache sees it: as if the caller had asked the upstream itself."""
        # What is added decides answers too; the host that the caller knows is ours. What does not
        # go on must not decide: it would put the answer in another question's place.
        pairs = list(headers)
        ends_here = HOP_BY_HOP | _named_by_connection(pairs) | self._added.keys() | {b"host"}
        told = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in pairs
            if name not in ends_here
        ]
        told += [
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in self._added.items()
        ]
        return Origin(method, self.scheme, self.authority, path, query, told)

    def request(
        self,
        origin: Origin,
        headers: Iterable[tuple[bytes, bytes]],
        content: bytes | AsyncIterator[bytes],
        *,
        of_cache: bool,
    ) -> Any:
        """Make the request that goes to the upstream.

        `of_cache`: the cache answers it, and what asks the cache of something ends here.
        """
        passed = _passed_on(headers, self._added)
        if self.strips:
            passed = [pair for pair in passed if not is_credential(pair[0].decode("latin-1"))]
        if of_cache:
            passed = [
                (name, _undone(value) if name == b"accept-encoding" else value)
                for name, value in passed
                if name != b"cache-control"
            ]
        if self._traces:
            passed = inject(passed)
        target = without_credentials(origin) if self.strips else origin.target
        passed += self._added.items()
        passed.append((b"host", self.authority.encode("ascii")))
        if isinstance(content, bytes):
            passed = [pair for pair in passed if pair[0] != b"content-length"]
            if content or origin.method in ("POST", "PUT", "PATCH"):
                passed.append((b"content-length", str(len(content)).encode()))
            stream: Any = httpx2.ByteStream(content)
        else:
            if not any(name == b"content-length" for name, _ in passed):
                passed.append((b"transfer-encoding", b"chunked"))
            stream = _Incoming(content)
        return httpx2.Request(
            origin.method,
            _url(f"{self.scheme}://{self.authority}{target}"),
            headers=passed,
            stream=stream,
            extensions=dict(self._timeouts),
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self.transport.aclose()


def _transport(upstream: Upstream) -> httpx2.AsyncBaseTransport:
    """Make what requests go out by: our own connections, or the library's through a proxy."""
    authorities = upstream.tls_authorities
    tls = ssl.create_default_context(cafile=authorities) if authorities else None
    if upstream.proxy is not None:
        return httpx2.AsyncHTTPTransport(
            verify=True if tls is None else tls,
            proxy=upstream.proxy,
            limits=httpx2.Limits(
                max_connections=upstream.max_connections,
                # What comes late on one would be read as the answer to whatever is asked next.
                max_keepalive_connections=0,
            ),
        )
    url = httpx2.URL(upstream.base_url)
    is_safe = url.scheme == "https"
    return Direct(
        url.raw_host.decode("ascii").strip("[]"),
        url.port or (443 if is_safe else 80),
        (tls or httpx2.create_ssl_context()) if is_safe else None,
        connect_timeout=upstream.connect_timeout,
        timeout=upstream.timeout,
        max_connections=upstream.max_connections,
    )


class _Incoming(httpx2.AsyncByteStream):
    """Pass a body on as it comes in."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._has_begun = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._has_begun:
            # What has gone out on a lost connection is not there for another one.
            raise httpx2.WriteError("the body has been sent already")
        self._has_begun = True
        async for chunk in self._chunks:
            yield chunk


@functools.lru_cache(maxsize=256)
def _url(told: str) -> httpx2.URL:
    """Read a URL, which many requests have in common."""
    return httpx2.URL(told)


def _passed_on(headers: Iterable[tuple[bytes, bytes]], added: Mapping[bytes, bytes]) -> Headers:
    pairs = list(headers)
    named = _named_by_connection(pairs)
    return [
        (name, value)
        for name, value in pairs
        if name not in HOP_BY_HOP
        and name not in _SET_ANEW
        and name not in named
        and name not in added
        and not name.startswith(_OWN)
    ]


def _undone(codings: bytes) -> bytes:
    """Leave of the codings that a caller takes those that can be undone, to keep the answer."""
    told = [part.strip() for part in codings.split(b",")]
    kept = [part for part in told if part.partition(b";")[0].strip().lower() in _CODINGS]
    return b", ".join(kept) or b"identity"


def headers_back(response: Any, way: Way, *, of_cache: bool) -> Headers:
    """Give the headers of a response that the caller may see.

    Where the gateway has the provider's key, whose account that is concerns no caller. Cookies of
    what the cache answers (`of_cache`) would make another caller of whoever sends them back.
    """
    pairs: Headers = [(name.lower(), value) for name, value in response.headers.raw]
    named = _named_by_connection(pairs)
    ends_here = HOP_BY_HOP | named | _OF_THE_HOST
    if way.strips:
        ends_here |= _OF_ACCOUNT
    if way.strips or of_cache:
        ends_here |= _COOKIE
    if response.status_code in _BODILESS or any(name == b"transfer-encoding" for name, _ in pairs):
        # It is not the length of what comes (RFC 9112, section 6.3).
        ends_here |= {b"content-length"}
    return [
        (name, value)
        for name, value in pairs
        if name not in ends_here and not _UNSENDABLE.search(value)
    ]


def _named_by_connection(headers: Headers) -> frozenset[bytes]:
    values = [value for name, value in headers if name == b"connection"]
    if not values:
        return frozenset()
    return frozenset(part.strip().lower() for value in values for part in value.split(b","))
