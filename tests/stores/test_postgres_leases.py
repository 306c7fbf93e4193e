"""The leases of the other stores' tests, in Postgres, and what is its own."""

import itertools
import time
from collections.abc import Iterator

import psycopg
import pytest

from askonce.core.store import Store
from askonce.stores.postgres import PostgresStore
from tests.servers.poolers import pooler
from tests.servers.postgres import PostgresServer, each_postgres, postgres
from tests.test_leases import *
from tests.test_leases import leases

__all__ = ["each_postgres", "pooler", "postgres"]

_numbers = itertools.count()


def opened(url: str) -> Iterator[tuple[Store, Store]]:
    table = f"leased_{next(_numbers)}"
    with (
        PostgresStore(url, table=table, lookup_timeout=30) as one,
        PostgresStore(url, table=table, lookup_timeout=30) as other,
    ):
        yield one, other


@pytest.fixture
def pair(each_postgres: PostgresServer) -> Iterator[tuple[Store, Store]]:
    yield from opened(each_postgres.url())


@pytest.fixture
def pooled_pair(pooler: int) -> Iterator[tuple[Store, Store]]:
    yield from opened(f"postgresql://postgres@127.0.0.1:{pooler}/postgres")


def test_leases_outlive_the_session_that_took_them(pooled_pair):
    one, other = map(leases, pooled_pair)
    assert one.claim(["a", "b"]) == ["a", "b"]
    assert other.claim(["b", "c"]) == ["c"]
    one.renew(["a", "b"], one._holder, 60.0)
    one.release(["a", "b"])
    assert other.claim(["a", "b"]) == ["a", "b"]


def test_the_clock_of_a_host_does_not_matter(pair, monkeypatch):
    one, other = map(leases, pair)
    one.claim(["a"])
    real = time.time()
    for skew in (-1e6, 1e6):
        monkeypatch.setattr(time, "time", lambda skew=skew: real + skew)
        assert other.claim(["a"]) == []


def test_a_key_may_be_asked_for_twice_at_once(pair):
    one, _ = map(leases, pair)
    assert one.claim(["b", "a", "b"]) == ["b", "a", "b"]


def test_pruning_forgets_the_leases_of_the_dead(pair, each_postgres):
    one, _ = pair
    leases(one).take(["dead"], "the dead", -7200.0)
    leases(one).take(["late"], "the late", -60.0)
    leases(one).claim(["mine"])
    assert one.prune(0.0) == 0
    with psycopg.connect(each_postgres.url()) as connection:
        left = connection.execute(f"SELECT key FROM {one._tables.leases} ORDER BY key").fetchall()
    assert left == [("late",), ("mine",)]
