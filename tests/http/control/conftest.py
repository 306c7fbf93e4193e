"""Fixtures: a clock that a test sets."""

import pytest


@pytest.fixture
def clock(monkeypatch):
    """Stand in for the time: a list with the seconds."""
    now = [1000.0]
    monkeypatch.setattr("askonce.core.flow.now", lambda: now[0])
    return now
