"""What became of a request, on real spans."""

import asyncio
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as names
from opentelemetry.semconv.attributes import exception_attributes
from opentelemetry.trace import SpanKind, StatusCode

import askonce
from askonce import MissingExtraError
from askonce.events import Event
from askonce.observe import opentelemetry as observing
from askonce.observe.opentelemetry import Traces, inject, request_span

PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE = 0x0AF7651916CD43DD8448EB211C80319C


def provider(monkeypatch, **options):
    """Put spans of this test alone into a list, as the program's own set-up would."""
    exporter = InMemorySpanExporter()
    made = TracerProvider(shutdown_on_exit=False, **options)
    made.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", made)
    return exporter


@pytest.fixture
def spans(monkeypatch):
    return provider(monkeypatch)


def observed(spans, *events):
    """Give the one span during which these events were."""
    with request_span("POST", []):
        for event in events:
            Traces()(event)
    (span,) = spans.get_finished_spans()
    return span


def test_a_miss_spends(spans):
    event = Event(
        "miss", 1, "team", "gpt-4o-mini", 1.5, input_tokens=10, output_tokens=2, cached_tokens=4
    )
    span = observed(spans, event)
    assert dict(span.attributes) == {
        "askonce.outcome": "miss",
        "askonce.misses": 1,
        "askonce.namespace": "team",
        names.GEN_AI_RESPONSE_MODEL: "gpt-4o-mini",
        names.GEN_AI_USAGE_INPUT_TOKENS: 10,
        names.GEN_AI_USAGE_OUTPUT_TOKENS: 2,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "askonce.spent.dollars": event.price,
    }


def test_a_hit_saves_and_has_no_usage(spans):
    event = Event("hit", 1, "", "gpt-4o-mini", input_tokens=10, output_tokens=2)
    span = observed(spans, event)
    assert dict(span.attributes) == {
        "askonce.outcome": "hit",
        "askonce.hits": 1,
        names.GEN_AI_RESPONSE_MODEL: "gpt-4o-mini",
        "askonce.saved.input_tokens": 10,
        "askonce.saved.output_tokens": 2,
        "askonce.saved.dollars": event.price,
    }


def test_a_batch_with_a_miss_is_a_miss(spans):
    events = [Event("hit", 2, "", "m"), Event("miss", 3, "", "m"), Event("stored", 3, "", "m")]
    span = observed(spans, *events)
    assert dict(span.attributes) == {
        "askonce.outcome": "miss",
        "askonce.hits": 2,
        "askonce.misses": 3,
        "askonce.stored": 3,
        names.GEN_AI_REQUEST_MODEL: "m",
    }


def test_a_refusal_and_a_failing_store_are_events(spans):
    span = observed(
        spans,
        Event("refused", reason="it was cut", code="length"),
        Event("store_failed", error=OSError("the disk is full")),
        Event("store_back", reason="it had failed"),
    )
    refused, failed, back = span.events
    assert (refused.name, dict(refused.attributes)) == (
        "askonce.refused",
        {"code": "length", "reason": "it was cut"},
    )
    assert failed.name == "askonce.store_failed"
    assert dict(failed.attributes) == {
        exception_attributes.EXCEPTION_TYPE: "builtins.OSError",
        exception_attributes.EXCEPTION_MESSAGE: "the disk is full",
    }
    assert (back.name, dict(back.attributes)) == (
        "askonce.store_back",
        {"reason": "it had failed"},
    )


@pytest.mark.parametrize("kind", ["hit", "miss", "stored", "refused", "store_failed"])
def test_without_a_span_nothing_happens(spans, kind):
    Traces()(Event(kind))
    assert spans.get_finished_spans() == ()


def test_a_span_that_records_nothing_costs_no_price(monkeypatch):
    spans = provider(monkeypatch, sampler=ALWAYS_OFF)
    monkeypatch.setattr(Event, "price", property(lambda event: pytest.fail("it was asked for")))
    with request_span("POST", []):
        Traces()(Event("hit", input_tokens=1))
    assert spans.get_finished_spans() == ()


async def test_a_cache_writes_on_the_span_of_each_task(spans):
    def embed(texts):
        return [[float(len(text))] for text in texts]

    cache = askonce.EmbeddingCache(embed, model="lengths", store="memory://", observe=Traces())
    await cache.aembed(["a"])

    async def ask(name, text):
        with request_span(name, []):
            await asyncio.sleep(0)
            await cache.aembed([text])

    await asyncio.gather(ask("hit", "a"), ask("miss", "b"))
    outcomes = {span.name: span.attributes["askonce.outcome"] for span in spans.get_finished_spans()}
    assert outcomes == {"hit": "hit", "miss": "miss"}


@pytest.mark.parametrize("name", [b"traceparent", b"TraceParent"])
def test_a_request_is_part_of_the_trace_that_it_names(spans, name):
    headers = [(b"accept", b"*/*"), (name, PARENT), (b"tracestate", b"a=1"), (b"tracestate", b"b=2")]
    with request_span("POST", headers, {"url.path": "/v1"}) as span:
        span.set_attribute("http.response.status_code", 200)
    (span,) = spans.get_finished_spans()
    assert span.kind is SpanKind.SERVER
    assert span.context.trace_id == span.parent.trace_id == TRACE
    assert span.parent.span_id == 0xB7AD6B7169203331
    assert span.context.trace_state.to_header() == "a=1,b=2"
    assert dict(span.attributes) == {"url.path": "/v1", "http.response.status_code": 200}


@given(value=st.binary(max_size=80) | st.just(PARENT + b"-x"))
def test_a_trace_that_cannot_be_read_is_a_new_one(value):
    with request_span("POST", [(b"traceparent", value), (b"tracestate", value)]):
        pass


def test_baggage_of_strangers_is_left_alone(spans):
    with request_span("POST", [(b"baggage", b"user=1")]):
        assert inject([]) == [(b"traceparent", inject([])[0][1])]


def test_an_error_that_escapes_is_noted(spans):
    with pytest.raises(ValueError, match="broken"), request_span("POST", []):
        raise ValueError("broken")
    (span,) = spans.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR
    assert span.events[0].name == "exception"


def test_the_next_in_line_is_told_of_our_span(spans):
    given_ = [(b"Traceparent", PARENT), (b"accept", b"*/*"), (b"tracestate", b"a=1")]
    with request_span("POST", given_) as span:
        sent = inject(given_)
    context = span.get_span_context()
    parent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
    assert context.trace_id == TRACE
    assert dict(sent) == {
        b"accept": b"*/*",
        b"traceparent": parent.encode(),
        b"tracestate": b"a=1",
    }
    assert len(sent) == 3
    assert parent.encode() != PARENT


def test_without_a_span_headers_stay_as_they_are(spans):
    given_ = [(b"traceparent", PARENT), (b"accept", b"*/*")]
    sent = inject(given_)
    assert sent == given_
    assert sent is not given_


def test_without_an_sdk_a_trace_passes_through(monkeypatch):
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    given_ = [(b"traceparent", PARENT)]
    with request_span("POST", given_):
        Traces()(Event("hit"))
        assert inject(given_) == given_


def test_the_names_are_those_of_the_conventions():
    assert observing._REQUEST_MODEL == names.GEN_AI_REQUEST_MODEL


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "askonce.observe.opentelemetry")
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'askonce\[otel\]'"):
        import askonce.observe.opentelemetry  # noqa: F401
