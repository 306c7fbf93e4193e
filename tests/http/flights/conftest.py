"""Fixtures: a store of which no flight and no lease may be left."""

import pytest

import askonce
from tests.http.flights.gates import nothing_is_left


@pytest.fixture
def store(tmp_path):
    with askonce.open_store(f"sqlite:///{tmp_path}/cache.db") as store:
        yield store
        nothing_is_left(store)
