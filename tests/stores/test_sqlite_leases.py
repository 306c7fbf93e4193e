"""Leases in SQLite keep few keys and many in different tables, and nobody notices."""

import asyncio
import contextlib
import itertools
import sqlite3
import threading
from unittest import mock

import askonce
import pytest
from askonce.stores import sqlite_leases, unwaiting
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

    @rule(keys=some_keys, holder=holders, at_once=st.booleans())
    def take(self, keys, holder, at_once):
        keys = [key for key in keys if self.holder_of(key) != holder]
        granted = self.leases.take_at_once(keys, holder, 10.0) if at_once else None
        if granted is None:
            granted = self.leases.take(keys, holder, 10.0)
        assert granted == [key for key in keys if self.holder_of(key) == ""]
        self.held.update(dict.fromkeys(granted, (holder, self.now + 10.0)))

    @rule(keys=some_keys, holder=holders, at_once=st.booleans())
    def drop(self, keys, holder, at_once=False):
        if not (at_once and self.leases.drop_at_once(keys, holder)):
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


async def test_nothing_waits_in_a_loop_while_another_process_writes(leases):
    leases.works_in_loops = True
    assert await leases.aclaim(["a", "b"]) == ["a", "b"]
    with contextlib.closing(sqlite3.connect(leases._database.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert leases.take_at_once(["c"], "one", 60.0) is None
        assert not leases.drop_at_once(["a"], leases._holder)
        claiming = asyncio.ensure_future(leases.aclaim(["c"]))
        releasing = asyncio.ensure_future(leases.arelease(["a"]))
        await asyncio.sleep(0.05)
        assert not claiming.done() and not releasing.done()
        other.execute("COMMIT")
    await releasing
    assert await claiming == ["c"]
    assert leases.take(["a", "b", "c"], "other", 60.0) == ["a"]


async def test_what_is_claimed_in_a_loop_is_renewed_like_all_else(leases):
    leases.works_in_loops = True
    leases.seconds = 0.15
    renewed = threading.Event()
    renew = leases.renew
    leases.renew = lambda *arguments: [renew(*arguments), renewed.set()]
    assert await leases.aclaim(["a"]) == ["a"]
    assert await asyncio.to_thread(renewed.wait, 30)
    await leases.arelease(["a"])
    assert not leases._held
    assert leases.take(["a"], "other", 60.0) == ["a"]


async def test_a_loop_leaves_the_first_claim_to_a_thread(leases, monkeypatch):
    monkeypatch.setattr(unwaiting, "SLOW", 3600.0)
    leases.works_in_loops = True
    assert leases.take_at_once(["a"], "one", 60.0) is None
    assert await leases.aclaim(["a"]) == ["a"]
    assert leases.take_at_once(["b"], "one", 60.0) == ["b"]


async def test_a_loop_leaves_a_slow_disk_to_threads(leases, monkeypatch):
    leases.works_in_loops = True
    assert leases.take(["a"], "one", 60.0) == ["a"]
    now = itertools.count(1000.0, 0.03)
    monkeypatch.setattr(sqlite_leases.time, "monotonic", lambda: next(now))
    assert leases.take_at_once(["b"], "one", 60.0) == ["b"]
    assert leases.take_at_once(["c"], "one", 60.0) is None


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
