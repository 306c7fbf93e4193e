"""What identifies a request on the wire, beside its body."""

import functools
import hashlib
import hmac
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final

from askonce.core.keys import Subject, encode
from askonce.http.control import OWN_PREFIX, Policy

IGNORED_HEADERS: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        (
            "accept",
            "accept-encoding",
            "connection",
            "content-encoding",
            "content-length",
            "content-type",
            "date",
            "expect",
            "forwarded",
            "host",
            "keep-alive",
            "priority",
            "proxy-*",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
            "via",
            "x-amz-content-sha256",
            "x-amz-date",
            "x-forwarded-*",
            "x-real-ip",
            "x-server-timeout",
        ),
        "transport",
    ),
    **dict.fromkeys(("origin", "referer", "sec-*", "user-agent", "x-app"), "the client"),
    **dict.fromkeys(
        (
            "b3",
            "baggage",
            "sentry-trace",
            "traceparent",
            "tracestate",
            "x-amzn-trace-id",
            "x-b3-*",
            "x-client-request-id",
            "x-cloud-trace-context",
            "x-correlation-id",
            "x-datadog-*",
            "x-ms-client-request-id",
            "x-request-id",
        ),
        "tracing",
    ),
    **dict.fromkeys(("x-stainless-*", "x-goog-api-client"), "telemetry of an SDK"),
    **dict.fromkeys(("idempotency-key", "retry-after"), "retries"),
    **dict.fromkeys(("cache-control", "pragma", f"{OWN_PREFIX}*"), "meant for caches"),
}
"""Headers that decide no answer, each with the reason; a name may end in `*`."""

CREDENTIALS: Final = (
    "*api-key",
    "*authorization",
    "*subscription-key",
    "*-auth",
    "*-secret",
    "*-token",
    "cookie",
    "openai-organization",
    "openai-project",
    "x-goog-user-project",
)
"""Headers that tell who asks and who pays; a name may begin with `*`."""

_Pairs = tuple[tuple[str, str], ...]

_CREDENTIAL_QUERIES = frozenset({"key", "api_key", "api-key", "access_token"})
_PRESENTATION_QUERIES = frozenset({"alt"})


@dataclass(frozen=True)
class Origin:
    """Hold the parts of a request that are not its body, headers in lower case."""

    method: str
    scheme: str
    authority: str
    path: str
    query: str
    headers: Sequence[tuple[str, str]] = field(default_factory=tuple)

    @property
    def target(self) -> str:
        """Give path and query, as a wire wants them."""
        return f"{self.path}?{self.query}" if self.query else self.path


def subject_of(
    kind: str,
    model: str,
    origin: Origin,
    policy: Policy,
    *,
    ignored: Iterable[str] = (),
    isolation_key: bytes | None = None,
    request: bytes | None = None,
) -> Subject:
    """Name what a family of requests has in common: all that decides their answers but the body.

    With an isolation key, that is also who asks: a keyed digest of the credentials. `request` is
    what the requests of a batch have in common.
    """
    query = [
        pair
        for pair in _pairs_of(origin.query)
        if pair[0] not in _CREDENTIAL_QUERIES | _PRESENTATION_QUERIES
    ]
    # The order of equal names may matter, that of different ones does not.
    query.sort(key=_first)
    return _subject(
        policy.namespace,
        kind,
        model or "unknown",
        place=f"{origin.scheme}://{origin.authority}",
        query=tuple(query),
        headers=tuple((name, tuple(values)) for name, values in _deciding(origin, ignored).items()),
        sample=policy.sample,
        credential=None if isolation_key is None else credential_of(origin, isolation_key),
        request=request,
    )


@functools.lru_cache(maxsize=256)
def _subject(
    namespace: str,
    kind: str,
    model: str,
    *,
    place: str,
    query: tuple[tuple[str, str], ...],
    headers: tuple[tuple[str, tuple[str, ...]], ...],
    sample: int,
    credential: str | None,
    request: bytes | None,
) -> Subject:
    """Make a subject, which one client asks about again and again."""
    parameters: dict[str, object] = {
        "origin": place,
        "query": [list(pair) for pair in query],
        "headers": {name: list(values) for name, values in headers},
    }
    if sample:
        parameters["sample"] = sample
    if credential is not None:
        parameters["credential"] = credential
    if request is not None:
        parameters["request"] = request
    return Subject(namespace, kind, model, parameters)


def reason_ignored(name: str, value: str, ignored: Iterable[str] = ()) -> str | None:
    """Tell why a header decides no answer, None if it does."""
    if name == "accept-language" and value.strip() == "*":
        # As JavaScript's fetch says in every request; Python's clients say nothing instead.
        return "any language"
    reason = _reason(name)
    if reason is None and any(fnmatchcase(name, pattern.lower()) for pattern in ignored):
        return "as told"
    return reason


@functools.lru_cache(maxsize=1024)
def _reason(name: str) -> str | None:
    if any(fnmatchcase(name, pattern) for pattern in CREDENTIALS):
        return "credentials"
    for pattern, reason in IGNORED_HEADERS.items():
        if fnmatchcase(name, pattern):
            return reason
    return None


def _deciding(origin: Origin, ignored: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in origin.headers:
        # A host that is not the URL's names another server behind the same address.
        elsewhere = name == "host" and value.lower() != origin.authority
        if elsewhere or reason_ignored(name, value, ignored) is None:
            found.setdefault(name, []).append(value)
    return found


def _pairs_of(query: str) -> list[tuple[str, str]]:
    return urllib.parse.parse_qsl(query, keep_blank_values=True, errors="surrogateescape")


def _first(pair: tuple[str, str]) -> str:
    return pair[0]


def credential_of(origin: Origin, key: bytes) -> str:
    """Digest who asks, so that the digest is of no use without the key."""
    headers = tuple(sorted(pair for pair in origin.headers if is_credential(pair[0])))
    pairs = _pairs_of(origin.query) if origin.query else ()
    queries = tuple(sorted(pair for pair in pairs if pair[0] in _CREDENTIAL_QUERIES))
    return _keyed_digest(key, headers, queries)


@functools.lru_cache(maxsize=256)
def _keyed_digest(key: bytes, headers: _Pairs, queries: _Pairs) -> str:
    """Digest a credential, which one caller has in each of its requests."""
    return hmac.new(key, encode([headers, queries]), hashlib.sha256).hexdigest()


def is_credential(name: str) -> bool:
    """Tell whether a header of this name (in lower case) tells who asks or who pays."""
    return _reason(name) == "credentials"


def without_credentials(origin: Origin) -> str:
    """Give path and query without what of the query tells who asks."""
    pairs = origin.query.split("&") if origin.query else []
    kept = [
        pair
        for pair in pairs
        if urllib.parse.unquote_plus(pair.partition("=")[0]) not in _CREDENTIAL_QUERIES
    ]
    return f"{origin.path}?{'&'.join(kept)}" if kept else origin.path
