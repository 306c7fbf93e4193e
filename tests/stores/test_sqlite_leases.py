"""Leases in SQLite keep few keys and many in different tables, and nobody notices."""

import itertools
from unittest import mock

import askonce
import pytest
from askonce.stores import sqlite_leases
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

KEYS = [f"namespace/embedding/model/{number}" for number in range(40)]
HOLDERS = ("one", "other", "third")

# A few neighbours, or so many that they have a row together.
some_keys = st.builds(
    lambda start, count, step: (KEYS[start:] + KEYS[:start])[: count * step : step],
    st.integers(0, len(KEYS) - 1),
    st.one_of(st.integers(1, 4), st.integers(15, 20)),
    st.integers(1, 2),
)
holders = st.sampled_from(HOLDERS)


class LeasesMachine(RuleBasedStateMachine):
    """Compare with a dictionary of who holds what until when."""

    @initialize()
    def open(self):
        self.store = askonce.open_store(f"sqlite:///{self.folder}/{next(self.numbers)}.db")
        self.leases = self.store.leases
        self.now = 1000.0
        self.held = {}
        self.clock = mock.patch.object(sqlite_leases.time, "time", lambda: self.now)
        self.clock.start()

    def teardown(self):
        self.clock.stop()
        self.store.close()

    def holder_of(self, key):
        holder, expires = self.held.get(key, ("", 0.0))
        return holder if expires > self.now else ""

    @rule(keys=some_keys, holder=holders)
    def take(self, keys, holder):
        keys = [key for key in keys if self.holder_of(key) != holder]
        granted = self.leases.take(keys, holder, 10.0)
        assert granted == [key for key in keys if self.holder_of(key) == ""]
        self.held.update(dict.fromkeys(granted, (holder, self.now + 10.0)))

    @rule(keys=some_keys, holder=holders)
    def drop(self, keys, holder):
        self.leases.drop(keys, holder)
        for key in keys:
            if self.holder_of(key) == holder:
                del self.held[key]

    @rule(holder=holders)
    def drop_all(self, holder):
        self.drop([key for key in self.held if self.holder_of(key) == holder], holder)

    @precondition(lambda self: self.held)
    @rule(holder=holders)
    def renew_all(self, holder):
        mine = [key for key in self.held if self.holder_of(key) == holder]
        self.leases.renew(mine, holder, 10.0)
        self.held.update(dict.fromkeys(mine, (holder, self.now + 10.0)))

    @rule(seconds=st.sampled_from([1.0, 5.0, 20.0]))
    def wait(self, seconds):
        self.now += seconds


def test_few_and_many_keys_are_leases_alike(tmp_path):
    LeasesMachine.folder = tmp_path
    LeasesMachine.numbers = itertools.count()
    run_state_machine_as_test(
        LeasesMachine, settings=settings(max_examples=60, stateful_step_count=25, deadline=None)
    )


def many(count=100):
    return [f"many/{number}" for number in range(count)]


@pytest.fixture
def leases(tmp_path):
    with askonce.open_store(f"sqlite:///{tmp_path}/cache.db") as store:
        yield store.leases


def test_many_keys_that_ran_out_are_taken_over_for_good(leases):
    assert leases.take(many(), "frozen", -1.0) == many()
    assert leases.take(many()[:1], "one", 60.0) == many()[:1]
    leases.renew(many(), "frozen", 60.0)
    assert leases.take(many()[:1], "frozen", 60.0) == []


def test_few_keys_that_ran_out_are_taken_over_for_good_by_many(leases):
    assert leases.take(many()[:1], "frozen", -1.0) == many()[:1]
    assert leases.take(many(), "one", 60.0) == many()
    leases.renew(many()[:1], "frozen", 60.0)
    assert leases.take(many()[:1], "frozen", 60.0) == []


def test_a_holder_may_claim_many_keys_again(leases):
    assert leases.take(many(), "one", 60.0) == many()
    assert leases.take(many(50), "one", 60.0) == many(50)
    assert leases.take(many(), "other", 60.0) == []


def test_keys_with_line_ends_are_leases_too(leases):
    keys = [f"two\nlines/{number}" for number in range(100)]
    assert leases.take(keys, "one", 60.0) == keys
    assert leases.take(["two", "lines/1", *keys], "other", 60.0) == ["two", "lines/1"]
    leases.drop(keys, "one")
    assert leases.take(keys, "other", 60.0) == keys
