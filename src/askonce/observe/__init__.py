"""Sinks of events: Prometheus, OpenTelemetry, and several at once."""

from askonce.core import flow
from askonce.events import Event, Observer


def tee(*observers: Observer) -> Observer:
    """Hand every event to each of these; one that fails is logged, and the others hear of it."""

    def each(event: Event) -> None:
        for observer in observers:
            flow.tell(observer, event)

    return each
