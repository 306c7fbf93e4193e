"""Metrics for Prometheus: events and requests, counted under few labels."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Final, Generic, Literal, TypeVar, get_args

from askonce.errors import InputError, MissingExtraError
from askonce.events import Code, Event, Observer
from askonce.observe.labels import OTHER, Names

try:
    import prometheus_client as client
    from prometheus_client import multiprocess
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.metrics import MetricWrapperBase
    from prometheus_client.registry import REGISTRY, CollectorRegistry
except ImportError as error:
    raise MissingExtraError("prometheus-client", "prometheus", "counting for Prometheus") from error

UpstreamError = Literal["429", "4xx", "5xx", "timeout", "connect", "cut", "other"]
"""How a request to a provider may go wrong; "cut" is an answer that broke off."""

Price = Callable[[Event], float | None]

SECONDS: Final = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
"""Where the buckets of durations end: from a quick hit to a slow model."""

_WHOSE: Final = ("route", "namespace", "model")
_DIRECTORY: Final = "PROMETHEUS_MULTIPROC_DIR"
_ERRORS: Final = frozenset(get_args(UpstreamError))
_CODES: Final = frozenset(get_args(Code)) - {""}


Metric = TypeVar("Metric", bound=MetricWrapperBase)


class _Children(dict[tuple[str, ...], Metric], Generic[Metric]):
    """Hold the children of one metric by their labels' values; its own `labels` costs more."""

    def __init__(self, metric: Metric) -> None:
        super().__init__()
        self._metric = metric

    def __missing__(self, values: tuple[str, ...]) -> Metric:
        child = self[values] = self._metric.labels(*values)
        return child


@dataclass(frozen=True, slots=True)
class _Whose:
    """Count the events of one route."""

    metrics: "Metrics"
    route: str

    def __call__(self, event: Event) -> None:
        self.metrics.count(event, self.route)


class Metrics:
    """Count events, and the requests that a server answers, in metrics of Prometheus.

    It is itself an observer. After `max_labels` different models, or namespaces, the next are
    counted as "other". `price` gives the dollars of an event, None if they are unknown. Without a
    registry, the metrics are in Prometheus' own, once in a process.
    """

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        *,
        max_labels: int = 100,
        price: Price = attrgetter("price"),
    ) -> None:
        if max_labels < 1:
            raise InputError(f"max_labels is {max_labels!r}; give a number above 0")
        self.registry = REGISTRY if registry is None else registry
        self._price = price
        self._models = Names(max_labels)
        self._namespaces = Names(max_labels)
        self._reasons = Names(max_labels)
        self._known: dict[tuple[str, str, str], tuple[str, str, str]] = {}
        self._hits = self._counter("hits", "Keys found in the cache.", *_WHOSE)
        self._misses = self._counter("misses", "Keys not found in the cache.", *_WHOSE)
        self._stored = self._counter("stored", "Keys written to the store.", *_WHOSE)
        self._refusals = self._counter(
            "refusals", "Answers that were not kept, by reason.", *_WHOSE, "reason"
        )
        self._tokens = self._counter(
            "tokens", "Tokens spent by misses and saved by hits.", *_WHOSE, "direction", "fate"
        )
        self._dollars = self._counter(
            "cost_dollars", "Dollars spent by misses and saved by hits.", *_WHOSE, "fate"
        )
        self._failures = self._counter(
            "store_failures", "Operations that the store failed in.", "route"
        )
        self._recoveries = self._counter(
            "store_recoveries", "Times that the store came back after it had failed.", "route"
        )
        self._requests = self._counter(
            "requests", "Requests answered.", "route", "status", "outcome"
        )
        self._upstream_errors = self._counter(
            "upstream_errors", "Requests to a provider that went wrong.", "route", "reason"
        )
        self._denied = self._counter("denied", "Requests that were denied access.", "reason")
        self._seconds = self._histogram("request_seconds", "Seconds until a request was answered.")
        self._first_byte = self._histogram(
            "first_byte_seconds", "Seconds until the first byte of an answer was sent."
        )

    def __call__(self, event: Event) -> None:
        self.count(event, "")

    def observer(self, *, route: str) -> Observer:
        """Give an observer whose events are counted under this route."""
        return _Whose(self, route)

    def count(self, event: Event, route: str, *, times: int = 1) -> None:
        """Count an event, so many times, under a route, of which there must be few."""
        kind = event.kind
        whose = self._known.get((route, event.namespace, event.model))
        if whose is None:
            whose = self._labels(event, route)
        if kind == "hit":
            self._hits[whose].inc(event.count * times)
            if event.input_tokens is not None:
                self._add_up(event, whose, "saved", times=times)
        elif kind == "miss":
            self._misses[whose].inc(event.count)
            if event.input_tokens is not None:
                self._add_up(event, whose, "spent")
        elif kind == "stored":
            self._stored[whose].inc(event.count)
        elif kind == "refused":
            code = event.code if event.code in _CODES else OTHER
            self._refusals[(*whose, code)].inc(event.count)
        elif kind == "store_failed":
            self._failures[(route,)].inc()
        else:
            self._recoveries[(route,)].inc()

    def requests(self, *, route: str, status: int, outcome: str, count: int) -> None:
        """Count requests that were answered; how long each took is counted by `answered_in`."""
        self._requests[route, str(status), outcome].inc(count)

    def answered_in(self, *, route: str, outcome: str, seconds: Iterable[float]) -> None:
        """Count how long each of some answers took."""
        observe = self._seconds[route, outcome].observe
        for one in seconds:
            observe(one)

    def request(self, *, route: str, status: int, outcome: str, seconds: float) -> None:
        """Count a request that was answered, and how long that took.

        There must be few routes and few outcomes; `seconds` are until the last byte was sent.
        """
        self._requests[route, str(status), outcome].inc()
        self._seconds[route, outcome].observe(seconds)

    def first_byte(self, *, route: str, outcome: str, seconds: float) -> None:
        """Count how long an answer took to begin."""
        self._first_byte[route, outcome].observe(seconds)

    def upstream_error(self, *, route: str, reason: UpstreamError) -> None:
        """Count a request to a provider that went wrong."""
        self._upstream_errors[route, reason if reason in _ERRORS else OTHER].inc()

    def denied(self, *, reason: str) -> None:
        """Count a request that was denied access, for one of few reasons."""
        self._denied[(self._reasons.bounded(reason),)].inc()

    def expose(self, *, accept: str = "") -> tuple[bytes, str]:
        """Write all metrics of the registry for a scrape; give the body and its content type.

        Where several processes count together (`PROMETHEUS_MULTIPROC_DIR` was set before
        Prometheus' client was imported), they are those of all of them. `accept` is what the
        scrape's `Accept` says.
        """
        registry = self.registry
        if os.environ.get(_DIRECTORY):
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)
        encode, content_type = choose_encoder(accept)
        return encode(registry), content_type

    def _labels(self, event: Event, route: str) -> tuple[str, str, str]:
        """Give the labels of an event, and remember them if they are going to stay."""
        proven = event.kind in ("hit", "stored") or event.input_tokens is not None
        namespace = self._namespaces.bounded(event.namespace, proven=proven)
        model = self._models.bounded(event.model, proven=proven)
        labels = (route, namespace, model)
        if namespace == event.namespace and model == event.model:
            self._known[labels] = labels
        return labels

    def _add_up(self, event: Event, whose: tuple[str, ...], fate: str, *, times: int = 1) -> None:
        # Providers tell the numbers, and a counter takes none below 0.
        self._tokens[(*whose, "input", fate)].inc(max(event.input_tokens or 0, 0) * times)
        self._tokens[(*whose, "output", fate)].inc(max(event.output_tokens or 0, 0) * times)
        dollars = self._price(event)
        if dollars is not None and dollars > 0:
            self._dollars[(*whose, fate)].inc(dollars * times)

    def _counter(self, name: str, about: str, *labels: str) -> _Children[client.Counter]:
        return _Children(client.Counter(f"askonce_{name}", about, labels, registry=self.registry))

    def _histogram(self, name: str, about: str) -> _Children[client.Histogram]:
        labels = ("route", "outcome")
        made = client.Histogram(
            f"askonce_{name}", about, labels, registry=self.registry, buckets=SECONDS
        )
        return _Children(made)


def process_ended(pid: int) -> None:
    """Note that one of several processes that count together has ended; its counts stay.

    It is for the process that started it to call. Without a folder to count together in, there is
    nothing to note.
    """
    if os.environ.get(_DIRECTORY):
        multiprocess.mark_process_dead(pid)
