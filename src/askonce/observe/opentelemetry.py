"""Traces of OpenTelemetry: what became of a request, on the span that it belongs to."""

import contextlib
from collections.abc import Generator, Mapping, Sequence
from typing import Final

from askonce.errors import MissingExtraError
from askonce.events import Event, Kind

try:
    from opentelemetry import trace
    from opentelemetry.propagators.textmap import Getter
    from opentelemetry.trace import Span, SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
    from opentelemetry.util.types import AttributeValue
except ImportError as error:
    raise MissingExtraError("opentelemetry-api", "otel", "tracing with OpenTelemetry") from error

Headers = Sequence[tuple[bytes, bytes]]
"""As ASGI has them: the names may be in any case."""

# The names of the semantic conventions for generative AI, which are moving to a home of their own.
_REQUEST_MODEL: Final = "gen_ai.request.model"
_RESPONSE_MODEL: Final = "gen_ai.response.model"
_SPENT: Final = (
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.cache_read.input_tokens",
    "askonce.spent.dollars",
)
# Whoever adds up usage must not add up what was not used.
_SAVED: Final = (
    "askonce.saved.input_tokens",
    "askonce.saved.output_tokens",
    "askonce.saved.cached_tokens",
    "askonce.saved.dollars",
)
_COUNTED: Final[Mapping[Kind, str]] = {
    "hit": "askonce.hits",
    "miss": "askonce.misses",
    "stored": "askonce.stored",
}


class Traces:
    """Write what happened to a request on the span that is current; it is an observer.

    A hit or a miss is the span's `askonce.outcome`: if there are both, as in a batch of
    embeddings, a miss. A refusal and the store's failing and return are events of the span. Tokens
    that a miss spent are the usage of the conventions for generative AI, those that a hit saved
    have names of their own.
    """

    def __call__(self, event: Event) -> None:
        span = trace.get_current_span()
        if not span.is_recording():
            return
        if event.kind in _COUNTED:
            span.set_attributes(_attributes_of(event))
        elif event.kind == "refused":
            span.add_event("askonce.refused", {"code": event.code, "reason": event.reason})
        else:
            error = event.error
            what = {"reason": event.reason} if error is None else _described(error)
            span.add_event(f"askonce.{event.kind}", what)


@contextlib.contextmanager
def request_span(
    name: str, headers: Headers, attributes: Mapping[str, AttributeValue] | None = None
) -> Generator[Span]:
    """Make a span for a request that is being served, part of the trace that its headers name.

    Of the headers only W3C's trace context counts. An exception that escapes is noted on it.
    """
    context = _W3C.extract(headers, getter=_PAIRS)
    tracer = trace.get_tracer("askonce")
    with tracer.start_as_current_span(
        name, context, kind=SpanKind.SERVER, attributes=attributes
    ) as span:
        yield span


def inject(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Give headers that name the current span as the parent, in place of those that named one.

    Without a current span they stay as they are.
    """
    told: dict[str, str] = {}
    _W3C.inject(told)
    if not told:
        return list(headers)
    kept = [pair for pair in headers if pair[0].lower() not in _NAMES]
    return kept + [(name.encode("ascii"), value.encode("ascii")) for name, value in told.items()]


def _attributes_of(event: Event) -> dict[str, AttributeValue]:
    found: dict[str, AttributeValue] = {_COUNTED[event.kind]: event.count}
    if event.kind != "stored":
        found["askonce.outcome"] = event.kind
    if event.namespace:
        found["askonce.namespace"] = event.namespace
    knows_cost = event.input_tokens is not None
    if event.model:
        # Who told the tokens has told the model by its full name.
        found[_RESPONSE_MODEL if knows_cost else _REQUEST_MODEL] = event.model
    if not knows_cost:
        return found
    amounts = (event.input_tokens, event.output_tokens, event.cached_tokens, event.price)
    names = _SAVED if event.kind == "hit" else _SPENT
    known = zip(names, amounts, strict=True)
    return found | {name: amount for name, amount in known if amount is not None}


def _described(error: BaseException) -> dict[str, AttributeValue]:
    kind = type(error)
    return {
        "exception.type": f"{kind.__module__}.{kind.__qualname__}",
        "exception.message": str(error),
    }


class _Pairs(Getter[Headers]):
    """Read the headers of ASGI."""

    def get(self, carrier: Headers, key: str) -> list[str] | None:
        wanted = key.lower().encode("ascii")
        return [value.decode("latin-1") for name, value in carrier if name.lower() == wanted]

    def keys(self, carrier: Headers) -> list[str]:
        return [name.decode("latin-1") for name, _ in carrier]


_W3C: Final = TraceContextTextMapPropagator()
_PAIRS: Final = _Pairs()
_NAMES: Final = frozenset(name.encode("ascii") for name in _W3C.fields)
