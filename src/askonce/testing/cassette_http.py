"""HTTP clients whose answers come from cassettes."""

import dataclasses
from contextvars import ContextVar
from typing import Any, Final

from askonce.core import codecs
from askonce.explain import Explanation
from askonce.http import HTTPCache, libraries, passing
from askonce.http.control import Policy
from askonce.http.exchange import Batch, Bypass, Exchange, Rules
from askonce.http.explaining import explain
from askonce.http.identity import Origin
from askonce.http.transport_classes import concerns, transports
from askonce.testing.cassette_answers import Json, answer_of, payload_of
from askonce.testing.cassette_file import Recorded
from askonce.testing.cassette_store import CassetteStore
from askonce.testing.cassette_transports import around
from askonce.testing.cassettes import Cassette
from askonce.wire import KEPT_IF_ASKED

ERROR_HEADERS: Final = frozenset(
    {"content-type", "request-id", "retry-after", "x-request-id", "x-should-retry"}
)
"""Of an error's headers these are recorded; no cookie, no credential, no account is."""

_asked: ContextVar[Exchange | Batch | None] = ContextVar("askonce_asked", default=None)
"""What the cache was asked, before it took the headers that are meant for it off."""


class CassetteCache(HTTPCache):
    """Answer from cassettes and record all that is whole, however fresh it is asked to be."""

    def __init__(self, cassette: Cassette) -> None:
        super().__init__(CassetteStore(cassette, lenient=True), observe=cassette.observe)
        self.cassette = cassette

    def understand(self, origin: Origin, content: bytes) -> Exchange | Batch | Bypass:
        found = super().understand(origin, content)
        if not isinstance(found, Bypass) and self.cassette.mode != "off":
            asked = found.policy
            policy = Policy(
                namespace=asked.namespace,
                sample=asked.sample,
                only_if_cached=asked.only_if_cached,
                keep=KEPT_IF_ASKED,
            )
            found = dataclasses.replace(found, policy=policy)
        _asked.set(None if isinstance(found, Bypass) else found)
        return found


def client(cassette: Cassette, library: str | None = None) -> Any:
    """Make a client that answers from cassettes: of httpx2, or of httpx if that is not there."""
    module = libraries.find(library)
    answering, _ = transports(module)
    outer, inner = around(module)
    provider = Provider(cassette)
    cached = answering(CassetteCache(cassette), inner(provider, module.HTTPTransport))
    return module.Client(transport=outer(provider, cached), follow_redirects=True)


def async_client(cassette: Cassette, library: str | None = None) -> Any:
    """Make an async client that answers from cassettes.

    It keeps no connection open, so that nobody needs to close it.
    """
    module = libraries.find(library)
    _, answering = transports(module)
    outer, inner = around(module)
    provider = Provider(cassette)
    limits = module.Limits(max_keepalive_connections=0)
    asking = inner(provider, lambda: module.AsyncHTTPTransport(limits=limits))
    cached = answering(CassetteCache(cassette), asking)
    return module.AsyncClient(transport=outer(provider, cached), follow_redirects=True)


@dataclasses.dataclass(frozen=True)
class Provider:
    """Decide for the transports around a cache what is asked, what recorded and at what pace."""

    cassette: Cassette

    def recorded_error(self, request: Any) -> tuple[int, dict[str, str], bytes] | None:
        """Give the error recorded for a request; fail the test where nothing may be asked."""
        explanation = _explained(request)
        found = self.cassette.find_error(" ".join(explanation.keys))
        if found is not None:
            _, content = payload_of(found.answer)
            return found.status, found.meta.get("headers", {}), content
        if self.cassette.mode == "replay":
            if explanation.refusal:
                self.cassette.fail(
                    {"method": request.method, "url": str(request.url.copy_with(query=None))},
                    reason=f"a request cannot be replayed: {explanation.refusal}",
                )
            self.cassette.fail(dict(explanation.identity))
        return None

    def wants_error(self, response: Any) -> bool:
        """Tell whether this response is an error that is to be recorded."""
        return self.cassette.errors and self.cassette.may_record and response.status_code >= 400

    def keep_error(self, request: Any, response: Any, content: bytes) -> None:
        """Record an error."""
        explanation = _explained(request)
        if not explanation.keys:
            return
        named = ((name.lower(), value) for name, value in response.headers.multi_items())
        meta: Json = {"headers": {name: value for name, value in named if name in ERROR_HEADERS}}
        answer: Json = {"status": response.status_code}
        answer |= answer_of(codecs.JSON, content)
        key = " ".join(explanation.keys)
        self.cassette.keep_error(Recorded(key, dict(explanation.identity), answer, meta))

    def delays_to_record(self, response: Any) -> list[float] | None:
        """Give the list for the seconds between the events of a response; None if it has none."""
        asked = _asked.get()
        if (
            not isinstance(asked, Exchange)
            or not self.cassette.may_record
            or not passing.is_events(response.headers)
            or "content-encoding" in response.headers
        ):
            return None
        return self.cassette.delays.setdefault(asked.question.key, [])

    def delays_to_replay(self, response: Any) -> list[float]:
        """Give the seconds between the events of a replayed response, if it is to take them."""
        asked = _asked.get()
        hit = response.headers.get("cache-status", "").startswith(f"{passing.CACHE}; hit")
        if not self.cassette.timing or not hit or not isinstance(asked, Exchange):
            return []
        found = self.cassette.find(asked.question.key)
        return found.meta.get("delays", []) if found and passing.is_events(response.headers) else []


def _explained(request: Any) -> Explanation:
    origin = passing.origin_of(request)
    if not concerns(origin):
        return explain(origin, b"", Rules())
    asked = _asked.get()
    return explain(origin, request.content, Rules(asked.policy if asked else Policy()))
