"""Fixtures: a store that fails on command."""

import pytest

from askonce.stores.memory import MemoryStore
from tests.stores.faults import Faulty


@pytest.fixture
def store():
    return Faulty(MemoryStore())
