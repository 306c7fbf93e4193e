"""Several sinks for one event."""

import logging

from askonce.events import Event
from askonce.observe import tee


def test_each_observer_hears_of_each_event():
    first, second = [], []
    observe = tee(first.append, second.append)
    events = [Event("hit"), Event("miss", 3)]
    for event in events:
        observe(event)
    assert first == second == events


def test_one_that_fails_is_logged_and_keeps_nothing_from_the_others(caplog):
    def broken(event):
        raise ValueError("no room")

    heard = []
    with caplog.at_level(logging.ERROR, "askonce"):
        tee(broken, heard.append)(Event("hit"))
    assert heard == [Event("hit")]
    assert "the observer failed on hit" in caplog.text


def test_a_tee_of_nothing_hears_nothing():
    assert tee()(Event("hit")) is None
