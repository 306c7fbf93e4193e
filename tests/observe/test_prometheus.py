"""Events and requests in metrics of Prometheus."""

import sys
import threading
from typing import get_args

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse

import askonce
from askonce import InputError, MissingExtraError
from askonce.events import Code, Event
from askonce.observe.prometheus import SECONDS, Metrics, UpstreamError, process_ended


@pytest.fixture
def metrics():
    return Metrics(CollectorRegistry())


def value(metrics, name, **labels):
    return metrics.registry.get_sample_value(f"askonce_{name}", labels)


def series(metrics, name):
    """Give the labels of all samples of this name."""
    return [
        sample.labels
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == f"askonce_{name}"
    ]


WHOSE = {"route": "", "namespace": "team", "model": "m"}


@pytest.mark.parametrize(
    ("kind", "name"), [("hit", "hits"), ("miss", "misses"), ("stored", "stored")]
)
def test_keys_are_counted(metrics, kind, name):
    metrics(Event(kind, 2, "team", "m"))
    metrics(Event(kind, 3, "team", "m"))
    assert value(metrics, f"{name}_total", **WHOSE) == 5


def test_routes_count_apart(metrics):
    metrics.observer(route="a")(Event("hit", 1, "team", "m"))
    metrics.observer(route="b")(Event("hit", 2, "team", "m"))
    metrics.observer(route="a")(Event("hit", 4, "team", "m"))
    counted = [value(metrics, "hits_total", **{**WHOSE, "route": route}) for route in "ab"]
    assert counted == [5, 2]


@pytest.mark.parametrize(("kind", "fate"), [("hit", "saved"), ("miss", "spent")])
def test_tokens_and_dollars_are_saved_or_spent(metrics, kind, fate):
    event = Event(
        kind, 1, "team", "gpt-4o-mini", input_tokens=1000, output_tokens=200, cached_tokens=0
    )
    metrics(event)
    metrics(event)
    whose = {**WHOSE, "model": "gpt-4o-mini", "fate": fate}
    assert value(metrics, "tokens_total", **whose, direction="input") == 2000
    assert value(metrics, "tokens_total", **whose, direction="output") == 400
    assert value(metrics, "cost_dollars_total", **whose) == pytest.approx(2 * event.price)
    assert event.price > 0


def test_what_is_unknown_is_not_counted(metrics):
    metrics(Event("hit", 1, "team", "m"))
    metrics(Event("miss", 1, "team", "my-own-model", input_tokens=3))
    assert {labels["direction"] for labels in series(metrics, "tokens_total")} == {"input", "output"}
    assert series(metrics, "cost_dollars_total") == []


@pytest.mark.parametrize("tokens", [(-5, -1, None), (0, 0, 10), (-5, 0, -5)])
def test_numbers_that_make_no_sense_are_not_counted(metrics, tokens):
    asked, said, cached = tokens
    event = Event(
        "miss", 1, "team", "gpt-4o-mini", input_tokens=asked, output_tokens=said, cached_tokens=cached
    )
    metrics(event)
    whose = {**WHOSE, "model": "gpt-4o-mini"}
    assert value(metrics, "misses_total", **whose) == 1
    assert value(metrics, "tokens_total", **whose, direction="input", fate="spent") == 0
    assert series(metrics, "cost_dollars_total") == []


def test_a_price_list_of_ones_own():
    metrics = Metrics(CollectorRegistry(), price=lambda event: event.input_tokens / 4)
    metrics(Event("miss", 1, "team", "m", input_tokens=3))
    assert value(metrics, "cost_dollars_total", **WHOSE, fate="spent") == 0.75


def test_refusals_are_counted_by_their_code(metrics):
    for code in get_args(Code):
        metrics(Event("refused", 1, "team", "m", reason=f"<{code}>", code=code))
    metrics(Event("refused", 1, "team", "m", reason="odd", code="made up"))
    told = {labels["reason"] for labels in series(metrics, "refusals_total")}
    assert told == {*get_args(Code), "other"} - {""}
    assert value(metrics, "refusals_total", **WHOSE, reason="other") == 2


def test_a_store_that_failed_and_came_back(metrics):
    observe = metrics.observer(route="a")
    observe(Event("store_failed", 100, error=OSError("gone")))
    observe(Event("store_back", reason="it had failed"))
    assert value(metrics, "store_failures_total", route="a") == 1
    assert value(metrics, "store_recoveries_total", route="a") == 1


def test_models_and_namespaces_are_bounded():
    metrics = Metrics(CollectorRegistry(), max_labels=4)
    for number in range(50):
        metrics(Event("hit", 1, f"n{number}", f"m{number}"))
    counted = series(metrics, "hits_total")
    assert {labels["model"] for labels in counted} == {"m0", "m1", "m2", "m3", "other"}
    assert {labels["namespace"] for labels in counted} == {"n0", "n1", "n2", "n3", "other"}
    assert value(metrics, "hits_total", route="", namespace="other", model="other") == 46


def test_models_that_nobody_answers_for_hide_none_that_somebody_does():
    metrics = Metrics(CollectorRegistry(), max_labels=4)
    for number in range(50):
        metrics(Event("miss", 1, "", f"junk-{number}"))
        metrics(Event("refused", 1, "", f"junk-{number}", code="provider_status"))
    # The first miss of a model comes before anybody has answered for it.
    for kind in ("miss", "stored", "miss"):
        metrics(Event(kind, 1, "", "real"))
    assert value(metrics, "stored_total", route="", namespace="", model="real") == 1
    assert value(metrics, "misses_total", route="", namespace="", model="real") == 1
    assert len(series(metrics, "misses_total")) == 4


def test_no_name_breaks_the_page(metrics):
    for name in ('a"b', "a\\b", "line\nfeed", "\ud800", "é", "x" * 10_000):
        metrics(Event("hit", 1, name, name))
        metrics.denied(reason=name)
    body, _ = metrics.expose()
    assert list(parse(body.decode()))
    assert len(body) < 20_000


def test_requests_and_how_long_they_took(metrics):
    metrics.request(route="a", status=200, outcome="hit", seconds=0.0004)
    metrics.request(route="a", status=200, outcome="hit", seconds=30.5)
    metrics.request(route="a", status=502, outcome="error", seconds=1)
    assert value(metrics, "requests_total", route="a", status="200", outcome="hit") == 2
    assert value(metrics, "requests_total", route="a", status="502", outcome="error") == 1
    hits = {"route": "a", "outcome": "hit"}
    assert value(metrics, "request_seconds_count", **hits) == 2
    assert value(metrics, "request_seconds_sum", **hits) == pytest.approx(30.5004)
    buckets = [("0.0005", 1), ("30.0", 1), ("60.0", 2)]
    for end, count in buckets:
        assert value(metrics, "request_seconds_bucket", **hits, le=end) == count
    assert SECONDS[0] == 0.0005
    assert SECONDS[-1] == 60


def test_first_bytes(metrics):
    metrics.first_byte(route="a", outcome="miss", seconds=0.3)
    assert value(metrics, "first_byte_seconds_count", route="a", outcome="miss") == 1


def test_errors_of_a_provider(metrics):
    for reason in (*get_args(UpstreamError), "made up"):
        metrics.upstream_error(route="a", reason=reason)
    told = {labels["reason"] for labels in series(metrics, "upstream_errors_total")}
    assert told == set(get_args(UpstreamError))
    assert value(metrics, "upstream_errors_total", route="a", reason="other") == 2


def test_requests_that_were_denied():
    metrics = Metrics(CollectorRegistry(), max_labels=2)
    for reason in ("revoked", "revoked", "expired", "x", "y"):
        metrics.denied(reason=reason)
    assert value(metrics, "denied_total", reason="revoked") == 2
    assert value(metrics, "denied_total", reason="other") == 2


@pytest.mark.parametrize(
    ("accept", "kind", "parser"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8", parse),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text", parse_open),
    ],
)
def test_a_scrape_gets_what_it_can_read(metrics, accept, kind, parser):
    metrics(Event("hit", 1, "team", "m"))
    body, content_type = metrics.expose(accept=accept)
    assert content_type.startswith(kind)
    (family,) = [one for one in parser(body.decode()) if one.name == "askonce_hits"]
    assert [sample.value for sample in family.samples if sample.name.endswith("_total")] == [1]


def test_names_follow_the_conventions(metrics):
    families = list(metrics.registry.collect())
    assert len(families) == 13
    for family in families:
        assert family.name.startswith("askonce_")
        assert family.documentation.endswith(".")
        assert family.type == "counter" or family.name.endswith("_seconds")


def test_the_metrics_of_a_cache(metrics):
    cache = askonce.EmbeddingCache(
        lambda texts: [[float(len(text))] for text in texts],
        model="lengths",
        store="memory://",
        observe=metrics,
    )
    cache.embed(["a", "bb", "a"])
    cache.embed(["a", "bb"])
    whose = {"route": "", "namespace": "", "model": "lengths"}
    counted = [value(metrics, f"{name}_total", **whose) for name in ("misses", "stored", "hits")]
    assert counted == [2, 2, 2]


def test_threads_lose_no_count(metrics):
    observe = metrics.observer(route="a")

    def count():
        for number in range(500):
            observe(Event("hit", 1, "", f"m{number % 7}"))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counted = series(metrics, "hits_total")
    assert len(counted) == 7
    assert sum(value(metrics, "hits_total", **labels) for labels in counted) == 2000


@pytest.mark.parametrize("most", [0, -1])
def test_a_number_of_labels_that_cannot_be_used(most):
    with pytest.raises(InputError, match="above 0"):
        Metrics(CollectorRegistry(), max_labels=most)


def test_alone_there_is_nothing_to_note_of_a_process(monkeypatch):
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    process_ended(1)


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "askonce.observe.prometheus")
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'askonce\[prometheus\]'"):
        import askonce.observe.prometheus  # noqa: F401


def test_what_happened_often_is_counted_at_once(metrics):
    event = Event("hit", 2, "team", "gpt-4o-mini", input_tokens=10, output_tokens=1)
    metrics.count(event, "a", times=3)
    whose = {**WHOSE, "route": "a", "model": "gpt-4o-mini"}
    assert value(metrics, "hits_total", **whose) == 6
    assert value(metrics, "tokens_total", **whose, direction="input", fate="saved") == 30
    assert value(metrics, "tokens_total", **whose, direction="output", fate="saved") == 3
    dollars = value(metrics, "cost_dollars_total", **whose, fate="saved")
    assert dollars == pytest.approx(3 * event.price)
    metrics.requests(route="a", status=200, outcome="hit", count=3)
    metrics.answered_in(route="a", outcome="hit", seconds=[0.001] * 3)
    assert value(metrics, "requests_total", route="a", status="200", outcome="hit") == 3
    assert value(metrics, "request_seconds_count", route="a", outcome="hit") == 3
