"""Fixtures: a ring of keys over a store that fails on command."""

import pytest

from askonce.gateway.api_keys import KeyRing
from askonce.stores.memory import MemoryStore
from tests.stores.faults import Faulty


@pytest.fixture
def store():
    return Faulty(MemoryStore())


@pytest.fixture
def ring(store):
    return KeyRing(store)
