"""What identifies a request on the wire, beside its body."""

import hashlib
import hmac
import re
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final

from askonce.core.keys import Subject
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
            "x-forwarded-*",
            "x-real-ip",
        ),
        "transport",
    ),
    **dict.fromkeys(
        ("accept-language", "origin", "referer", "sec-*", "user-agent", "x-app"), "the client"
    ),
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
    "api-key",
    "authorization",
    "cookie",
    "openai-organization",
    "openai-project",
    "x-api-key",
    "x-goog-api-key",
    "x-goog-user-project",
)
"""Headers that tell who asks and who pays."""

_CREDENTIAL_QUERIES = frozenset({"key", "api_key", "api-key", "access_token"})
_PRESENTATION_QUERIES = frozenset({"alt"})
_HEADER_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")


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


def parameters_of(
    origin: Origin, policy: Policy, ignored: Iterable[str], isolation_key: bytes | None
) -> dict[str, object]:
    """Give all that decides an answer besides namespace, model and body.

    With an isolation key, that is also who asks: a keyed digest of the credentials.
    """
    query = sorted(
        (name, value)
        for name, value in urllib.parse.parse_qsl(origin.query, keep_blank_values=True)
        if name not in _CREDENTIAL_QUERIES | _PRESENTATION_QUERIES
    )
    found: dict[str, object] = {
        "origin": f"{origin.scheme}://{origin.authority}",
        "query": [list(pair) for pair in query],
        "headers": {name: list(values) for name, values in _deciding(origin, ignored).items()},
    }
    if policy.sample:
        found["sample"] = policy.sample
    if isolation_key is not None:
        found["credential"] = credential_of(origin, isolation_key)
    return found


def reason_ignored(name: str, ignored: Iterable[str] = ()) -> str | None:
    """Tell why a header decides no answer, None if it does."""
    if name in CREDENTIALS:
        return "credentials"
    for pattern, reason in IGNORED_HEADERS.items():
        if fnmatchcase(name, pattern):
            return reason
    return "as told" if any(fnmatchcase(name, pattern.lower()) for pattern in ignored) else None


def _deciding(origin: Origin, ignored: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in origin.headers:
        if reason_ignored(name, ignored) is None and _HEADER_NAME.fullmatch(name):
            found.setdefault(name, []).append(value)
    return found


def credential_of(origin: Origin, key: bytes) -> str:
    """Digest who asks, so that the digest is of no use without the key."""
    given = [f"{name}:{value}" for name, value in sorted(origin.headers) if name in CREDENTIALS]
    given += [
        f"?{name}:{value}"
        for name, value in sorted(urllib.parse.parse_qsl(origin.query))
        if name in _CREDENTIAL_QUERIES
    ]
    content = "\0".join(given).encode("utf-8", "surrogateescape")
    return hmac.new(key, content, hashlib.sha256).hexdigest()


def subject_of(kind: str, model: str, policy: Policy, parameters: Mapping[str, object]) -> Subject:
    """Name what a family of requests has in common."""
    return Subject(policy.namespace, kind, model or "unknown", parameters)
