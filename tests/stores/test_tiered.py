"""Two tiers: conformance, a far tier that fails on command, and two hosts over one."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

import askonce
from askonce import InputError, StoreError, open_store
from askonce.core.flow import run as run_flow
from askonce.errors import StoreRefusedError
from askonce.http.tags import are_current, epochs_of, new_epochs
from askonce.stores.file import FileStore
from askonce.stores.guarded import Guarded
from askonce.stores.memory import MemoryStore
from askonce.stores.retiring import JOURNAL
from askonce.stores.sender import Sender
from askonce.stores.sqlite import SQLiteStore
from askonce.stores.tiered import TieredStore
from askonce.testing import Opener, StoreTests
from tests.alone import ROOT, alone
from tests.stores import forks
from tests.stores.faults import Faulty
from tests.stores.hosts import Clock, Host, blob, far_content


class TestMemoryOverSQLite(StoreTests):
    """Each instance is a host of its own."""

    @pytest.fixture
    def opener(self, tmp_path) -> Opener:
        return lambda: TieredStore(MemoryStore(), SQLiteStore(tmp_path / "far.db"), fresh_within=0)


class TestSQLiteOverFile(StoreTests):
    """All instances are processes of one host."""

    @pytest.fixture
    def opener(self, tmp_path) -> Opener:
        return lambda: TieredStore(
            SQLiteStore(tmp_path / "near.db"), FileStore(tmp_path / "far"), fresh_within=0
        )


class TestTiersOverTiers(StoreTests):
    @pytest.fixture
    def opener(self, tmp_path) -> Opener:
        def opened():
            inner = TieredStore(
                SQLiteStore(tmp_path / "near.db"), SQLiteStore(tmp_path / "far.db"), fresh_within=0
            )
            return TieredStore(MemoryStore(), inner, fresh_within=0)

        return opened


@pytest.fixture
def by_hand(monkeypatch):
    """Nothing is sent in the background."""
    monkeypatch.setattr(Sender, "wake", lambda self: None)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def far(tmp_path):
    return tmp_path / "far.db"


@pytest.fixture
def hosts(by_hand, far, clock, tmp_path):
    """A host with its near store on disk and one with it in memory."""
    two = [Host(far, clock, SQLiteStore(tmp_path / "near.db")), Host(far, clock)]
    yield two
    for host in two:
        host.link.come_back()
        host.close()


@pytest.fixture
def host(hosts):
    return hosts[0]


@pytest.fixture(params=["sync", "async"])
def use(request):
    """Use a verb in one colour."""

    def used(store, verb, *arguments):
        if request.param == "sync":
            return getattr(store, verb)(*arguments)
        return asyncio.run(getattr(store, "a" + verb)(*arguments))

    return used


# Reading


def test_reads_fill_the_near_tier(hosts, use):
    one, other = hosts
    use(one.tier, "write", {"a/1": b"one", "a/2": b"two"})
    assert use(other.tier, "read", ["a/2", "a/1"]) == [b"two", b"one"]
    assert other.asked_far() == ["a/2", "a/1"]
    assert use(other.tier, "read", ["a/2", "a/1"]) == [b"two", b"one"]
    assert use(other.tier, "read_joined", ["a/1", "a/2"]) == [b"one", b"two"]
    assert other.asked_far() == []


def test_the_far_tier_is_asked_only_for_what_the_near_one_lacks(hosts, use):
    one, other = hosts
    use(one.tier, "write", {f"a/{number}": b"%d" % number for number in range(10)})
    use(other.tier, "read", ["a/3", "a/5"])
    other.asked_far()
    wanted = [f"a/{number}" for number in range(12)]
    assert use(other.tier, "read_joined", wanted) == [b"%d" % n for n in range(10)] + [None, None]
    assert other.asked_far() == [key for key in wanted if key not in ("a/3", "a/5")]


def test_a_near_hit_asks_nothing_of_the_far_tier(host, use):
    host.tier.write({"a/1": b"one"})
    use(host.tier, "read", ["a/1"])
    host.link.asked.clear()
    for _ in range(10):
        assert use(host.tier, "read", ["a/1"]) == [b"one"]
        use(host.tier, "read_joined", ["a/1"])
    assert host.link.asked.total() == 0


def test_an_entry_past_its_end_is_looked_for_in_the_far_tier(hosts, clock, use):
    one, other = hosts
    old = blob("old", clock.now, clock.now + 100)
    one.tier.write({"a/1": old, "a/2": old}, expires=clock.now + 100)
    for host in hosts:
        assert use(host.tier, "read_joined", ["a/1", "a/2"]) in ([old, old], old + old)
    clock.pass_by(101)
    new = blob("new", clock.now, clock.now + 100)
    assert use(one.tier, "read", ["a/1"]) == [old]  # nobody has a better one
    use(one.tier, "write", {"a/1": new})
    assert use(other.tier, "read_joined", ["a/1", "a/2"]) == [new, old]
    other.asked_far()
    assert use(other.tier, "read", ["a/1"]) == [new]
    assert other.asked_far() == []


def test_an_entry_past_its_end_and_gone_from_the_far_tier_is_gone(host, clock, use):
    host.tier.write({"a/1": blob("old", clock.now, clock.now + 10)}, expires=clock.now + 10)
    clock.pass_by(11)
    host.link.store.delete(["a/1"])
    assert use(host.tier, "read", ["a/1"]) == [None]
    assert host.near.read(["a/1"]) == [None]


def test_what_is_too_large_for_the_near_tier_is_read_from_the_far_one(by_hand, far, clock):
    host = Host(far, clock, MemoryStore(5_000))
    host.tier.write({"a/1": b"small"})
    host.tier.write({"a/1": b"x" * 10_000})
    assert host.tier.read(["a/1"]) == [b"x" * 10_000]
    assert not host.tier.news
    host.close()


def test_an_older_value_is_not_given_for_one_too_large(by_hand, far, clock, tmp_path, use):
    host = Host(far, clock, SQLiteStore(tmp_path / "near.db", max_bytes=2**20))
    host.tier.write({"a/1": b"old"})
    host.tier.read(["a/1"])
    use(host.tier, "write", {"a/1": b"x" * 2**21})
    assert host.tier.read(["a/1"]) == [b"x" * 2**21]
    host.close()


def test_an_empty_value_is_one(host, use):
    host.tier.write({"a/1": b""})
    host.tier.read(["a/1"])
    host.asked_far()
    assert use(host.tier, "read", ["a/1"]) == [b""]
    assert host.asked_far() == []


# A far tier that fails


def test_a_far_tier_that_is_down_leaves_the_near_one_serving(host, use):
    host.tier.write({"a/1": b"one"})
    host.link.go_down()
    assert use(host.tier, "read", ["a/1", "a/2"]) == [b"one", None]
    assert use(host.tier, "read_joined", ["a/2", "a/1"]) == [None, b"one"]
    assert "connection refused" in str(host.tier.trouble)
    assert [event.kind for event in host.tier.news] == ["store_failed"]
    host.come_back()
    assert use(host.tier, "read", ["a/2"]) == [None]
    assert host.tier.trouble is None
    assert [event.kind for event in host.tier.news] == ["store_failed", "store_back"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_writes_that_could_not_reach_it_arrive_later(hosts, far, use, when):
    one, other = hosts
    one.link.go_down(when=when)
    use(one.tier, "write", {"a/1": b"one", "a/2": b"old"})
    use(one.tier, "write", {"a/2": b"two"})
    assert use(one.tier, "read", ["a/1", "a/2"]) == [b"one", b"two"]
    one.come_back()
    use(one.tier, "flush")
    assert far_content(far) == {"a/1": b"one", "a/2": b"two"}
    assert use(other.tier, "read", ["a/1", "a/2"]) == [b"one", b"two"]


def test_what_waits_is_read_though_the_near_tier_gave_it_up(by_hand, far, clock, use):
    host = Host(far, clock, MemoryStore(5_000))
    host.link.go_down()
    entries = {f"a/{number}": b"%d" % number * 1_000 for number in range(9)}
    use(host.tier, "write", entries)
    assert len(list(host.near.keys())) < 9
    assert use(host.tier, "read", [*entries, "a/x"]) == [*entries.values(), None]
    host.come_back()
    host.close()
    assert far_content(far) == entries


def test_later_writes_wait_behind_what_waits(host, far, use):
    host.link.go_down()
    use(host.tier, "write", {"a/1": b"old"})
    host.come_back()
    use(host.tier, "write", {"a/1": b"new"})
    assert far_content(far) == {}
    use(host.tier, "flush")
    assert far_content(far) == {"a/1": b"new"}


def test_a_near_tier_that_fails_leaves_the_far_one_serving(by_hand, far, clock, use):
    near = Faulty(MemoryStore(), error=StoreError("disk full"))
    host = Host(far, clock, near)
    host.tier.write({"a/1": b"old", "a/2": b"two"})
    near.go_down()
    use(host.tier, "write", {"a/1": b"new"})
    assert use(host.tier, "read", ["a/1", "a/2"]) == [b"new", b"two"]
    assert use(host.tier, "read_joined", ["a/1", "a/2"]) == [b"new", b"two"]
    with pytest.raises(StoreError, match="disk full"):
        use(host.tier, "delete", ["a/2"])
    assert far_content(far) == {"a/1": b"new"}
    near.come_back()
    host.close()


def test_both_failing_is_an_error(by_hand, far, clock, use):
    near = Faulty(MemoryStore(), error=StoreError("disk full"))
    host = Host(far, clock, near)
    near.go_down()
    host.link.go_down()
    with pytest.raises(StoreError, match=r"neither.*disk full.*connection refused"):
        use(host.tier, "write", {"a/1": b"one"})
    assert use(host.tier, "read", ["a/1"]) == [None]


def test_what_the_far_tier_refuses_does_not_wait(host, use):
    host.link.error = StoreRefusedError("too large")
    host.link.go_down("write")
    use(host.tier, "write", {"a/1": b"one"})
    assert use(host.tier, "read", ["a/1"]) == [b"one"]
    host.link.come_back()
    use(host.tier, "flush")
    assert host.link.store.read(["a/1"]) == [None]
    assert [str(event.error) for event in host.tier.news] == ["too large"]


def test_one_refused_entry_does_not_hold_up_the_others(by_hand, tmp_path, clock, use):
    far = Faulty(MemoryStore(5_000))
    tier = TieredStore(MemoryStore(), Guarded(far, clock=clock, lookup_timeout=60), clock=clock)
    far.go_down()
    use(tier, "write", {"a/1": b"one", "a/2": b"x" * 10_000, "a/3": b"three"})
    far.come_back()
    clock.pass_by(1)
    use(tier, "flush")
    assert far.store.read(["a/1", "a/2", "a/3"]) == [b"one", None, b"three"]
    assert "max_bytes" in str(tier.news[-1].error)
    tier.close()


def test_what_waits_is_bounded_and_more_is_told(by_hand, far, clock, use):
    host = Host(far, clock, outbox_bytes=10_000)
    host.link.go_down()
    for number in range(9):
        use(host.tier, "write", {f"a/{number}": b"x" * 2_000})
    assert use(host.tier, "read", ["a/8"]) == [b"x" * 2_000]
    assert "raise outbox_bytes" in str(host.tier.news[-1].error)
    host.come_back()
    host.close()
    assert len(far_content(far)) == 4


def test_a_cancelled_write_is_done_later(host, far):
    async def cancel():
        entered = asyncio.Event()

        async def hang(entries, expires):
            entered.set()
            await asyncio.Event().wait()

        host.link.awrite = hang
        task = asyncio.create_task(host.tier.awrite({"a/1": b"one"}))
        await entered.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        del host.link.awrite
        await host.tier.aflush()

    asyncio.run(cancel())
    assert far_content(far) == {"a/1": b"one"}


# Deleting


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("verb", "argument"), [("delete", ["a/1"]), ("clear", "a/")])
def test_a_forget_that_did_not_reach_the_far_tier_is_told_and_done_later(
    hosts, far, clock, use, when, verb, argument
):
    one, other = hosts
    one.tier.write({"a/1": b"one", "b/1": b"other"})
    other.tier.read(["a/1", "b/1"])
    one.link.go_down(when=when)
    with pytest.raises(StoreError, match=r"deleted from the near tier only.*It waits"):
        use(one.tier, verb, argument)
    assert use(one.tier, "read", ["a/1"]) == [None]
    one.come_back()
    assert use(one.tier, "read", ["a/1", "b/1"]) == [None, b"other"]
    use(one.tier, "flush")
    assert far_content(far) == {"b/1": b"other"}
    clock.pass_by(5)
    assert use(other.tier, "read", ["a/1", "b/1"]) == [None, b"other"]


def test_what_is_written_after_a_forget_that_waits_is_kept(hosts, far, clock, use):
    one, other = hosts
    one.tier.write({"a/1": b"old", "a/2": b"old"})
    other.tier.read(["a/1", "a/2"])
    one.link.go_down()
    with pytest.raises(StoreError):
        use(one.tier, "clear", "a/")
    use(one.tier, "write", {"a/1": b"new"})
    assert use(one.tier, "read", ["a/1", "a/2"]) == [b"new", None]
    one.come_back()
    use(one.tier, "flush")
    assert far_content(far) == {"a/1": b"new"}
    clock.pass_by(5)
    assert use(other.tier, "read", ["a/1", "a/2"]) == [b"new", None]


def test_others_hear_of_a_deletion_though_a_write_came_after_it(hosts, far, clock, use):
    one, other = hosts
    one.tier.write({"a/1": b"old"})
    other.tier.read(["a/1"])
    one.link.go_down("take")  # deleted from the far tier, but the others could not be told
    with pytest.raises(StoreError):
        use(one.tier, "delete", ["a/1"])
    use(one.tier, "write", {"a/1": b"new"})
    one.come_back()
    use(one.tier, "flush")
    clock.pass_by(5)
    assert use(other.tier, "read", ["a/1"]) == [b"new"]


def test_an_old_write_does_not_overwrite_a_newer_entry(hosts, far, clock, use):
    one, other = hosts
    one.link.go_down()
    use(one.tier, "write", {"a/1": blob("old", clock())})
    newer = blob("new", clock())
    assert use(other.tier, "read", ["a/1"]) == [None]
    use(other.tier, "write", {"a/1": newer})
    assert other.link.asked["take"] == 0
    one.come_back()
    use(one.tier, "flush")
    assert far_content(far) == {"a/1": newer}
    assert use(one.tier, "read", ["a/1"]) == [newer]


@pytest.mark.parametrize(("verb", "argument"), [("delete", ["a/1"]), ("clear", "a/")])
def test_an_old_write_does_not_bring_back_what_was_forgotten_since(
    hosts, far, clock, use, verb, argument
):
    one, other = hosts
    one.link.go_down()
    use(one.tier, "write", {"a/1": blob("old", clock())})
    use(other.tier, verb, argument)
    one.come_back()
    use(one.tier, "flush")
    assert far_content(far) == {}
    assert use(one.tier, "read", ["a/1"]) == [None]


@pytest.mark.parametrize(("verb", "argument"), [("delete", ["a/1"]), ("clear", "a/")])
def test_an_old_forget_does_not_delete_a_newer_entry(hosts, far, clock, use, verb, argument):
    one, other = hosts
    one.tier.write({"a/1": blob("old", clock())})
    one.link.go_down()
    with pytest.raises(StoreError):
        use(one.tier, verb, argument)
    newer = blob("new", clock())
    use(other.tier, "write", {"a/1": newer})
    one.come_back()
    use(one.tier, "flush")
    assert far_content(far) == {"a/1": newer}


def test_others_hear_of_what_a_late_write_replaced(hosts, clock, use):
    one, other = hosts
    assert other.tier.read(["a/1"]) == [None]
    other.tier.write({"a/1": b"old"})
    assert one.tier.read(["a/1"]) == other.tier.read(["a/1"]) == [b"old"]
    one.link.go_down()
    use(one.tier, "write", {"a/1": b"new"})
    one.come_back()
    use(one.tier, "flush")
    clock.pass_by(5)
    assert use(other.tier, "read", ["a/1"]) == [b"new"]


def test_what_expired_while_it_waited_is_not_sent(host, far, clock, use):
    host.link.go_down()
    use(host.tier, "write", {"a/1": blob("short", clock.now, clock.now + 10)})
    clock.pass_by(20)
    host.come_back()
    use(host.tier, "flush")
    assert far_content(far) == {}


# Two hosts


CHANGES = {
    "delete": (lambda use, tier: use(tier, "delete", ["a/1"]), [None, b"two"]),
    "clear": (lambda use, tier: use(tier, "clear", "a/"), [None, None]),
    "clear all": (lambda use, tier: use(tier, "clear", ""), [None, None]),
    "overwrite": (lambda use, tier: use(tier, "write", {"a/2": b"new"}), [b"one", b"new"]),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("turn", [0, 1])
def test_what_one_host_retires_is_gone_at_the_other_within_the_bound(
    hosts, clock, use, change, turn
):
    one, other = hosts[turn], hosts[1 - turn]
    one.tier.write({"a/1": b"one", "a/2": b"two"})
    assert use(other.tier, "read", ["a/1", "a/2"]) == [b"one", b"two"]
    retire, expected = CHANGES[change]
    retire(use, one.tier)
    assert use(one.tier, "read", ["a/1", "a/2"]) == expected
    clock.pass_by(5)
    assert use(other.tier, "read_joined", ["a/1", "a/2"]) == expected


def test_a_new_answer_costs_no_entry_in_the_journal(hosts, use):
    one, other = hosts
    assert use(one.tier, "read", ["a/1"]) == [None]
    use(one.tier, "write", {"a/1": b"one"})
    assert one.link.asked["take"] == 0
    use(other.tier, "write", {"a/1": b"two"})
    assert other.link.asked["take"] == 1


def test_only_what_was_retired_is_dropped(hosts, clock, use):
    one, other = hosts
    keys = [f"a/{number}" for number in range(100)]
    one.tier.write(dict.fromkeys(keys, b"x"))
    other.tier.read(keys)
    clock.pass_by(5)
    other.tier.read(keys)
    other.tier.read(keys)
    other.asked_far()
    use(one.tier, "delete", ["a/7"])
    clock.pass_by(5)
    use(other.tier, "read", keys)
    assert other.asked_far() == ["a/7"]


def test_a_host_that_missed_too_much_drops_everything(hosts, clock, use):
    one, other = hosts
    keys = [f"a/{number:04}" for number in range(3_000)]
    one.tier.write(dict.fromkeys(keys, b"x"))
    other.tier.read(keys)
    use(one.tier, "delete", keys[:2_000])
    clock.pass_by(5)
    assert use(other.tier, "read", keys[:1]) == [None]
    assert use(other.tier, "read", keys[-1:]) == [b"x"]
    assert len([key for key in other.near.keys("a/")]) == 1


def test_a_near_tier_on_disk_follows_what_happened_while_no_process_ran(by_hand, far, clock, tmp_path):
    def open_one():
        return Host(far, clock, SQLiteStore(tmp_path / "near.db"))

    one, other = open_one(), Host(far, clock)
    other.tier.write({"a/1": b"one", "a/2": b"two"})
    one.tier.read(["a/1", "a/2"])
    one.close()
    other.tier.delete(["a/1"])
    one = open_one()
    assert one.tier.read(["a/1", "a/2"]) == [None, b"two"]
    one.close()
    keys = [f"b/{number:04}" for number in range(2_000)]
    other.tier.delete([*keys, "a/2"])
    other.tier.delete(keys)
    one = open_one()
    assert one.tier.read(["a/2"]) == [None]
    one.close()
    other.close()


def test_what_a_store_held_before_it_became_a_near_tier_stays(hosts, far, clock, tmp_path):
    hosts[1].tier.write({"a/1": b"one"})
    hosts[1].tier.delete(["a/1"])
    with SQLiteStore(tmp_path / "old.db") as old:
        old.write({"a/2": b"paid for"})
    host = Host(far, clock, SQLiteStore(tmp_path / "old.db"))
    assert host.tier.read(["a/2"]) == [b"paid for"]
    assert sorted(host.tier.keys()) == ["a/2"]
    host.close()


def test_a_far_tier_that_lost_everything_does_not_empty_the_near_ones(hosts, far, clock, use):
    one, other = hosts
    one.tier.write({"a/1": b"one", "a/2": b"two"})
    other.tier.read(["a/1", "a/2"])
    one.link.store.clear("")
    clock.pass_by(5)
    assert use(other.tier, "read", ["a/1"]) == [b"one"]
    clock.pass_by(5)
    one.tier.read(["a/1"])
    use(one.tier, "delete", ["a/1"])
    clock.pass_by(5)
    assert use(other.tier, "read", ["a/1", "a/2"]) == [None, b"two"]


@pytest.mark.parametrize("damage", [b"", b"not an entry", blob("{}", 1.0), blob("[1]", 1.0)])
def test_a_journal_that_cannot_be_read_drops_everything(hosts, clock, damage):
    one, other = hosts
    one.tier.write({"a/1": b"one"})
    other.tier.read(["a/1"])
    other.link.store.write({JOURNAL: damage})
    other.link.store.delete(["a/1"])
    clock.pass_by(5)
    assert other.tier.read(["a/1"]) == [None]
    one.tier.write({"a/1": b"two"})
    clock.pass_by(5)
    assert other.tier.read(["a/1"]) == [b"two"]


def test_the_far_tier_is_looked_at_once_in_a_while_only(host, clock):
    host.tier.write({"a/1": b"one"})
    host.tier.read(["a/1"])
    host.link.asked.clear()
    for _ in range(40):
        clock.pass_by(1)
        host.tier.read(["a/1"])
    assert 6 <= host.link.asked["read"] <= 8


def test_a_clock_that_is_set_back_does_not_stop_the_looks(hosts, clock):
    one, other = hosts
    one.tier.write({"a/1": b"one"})
    other.tier.read(["a/1"])
    clock.pass_by(-3600)
    one.tier.delete(["a/1"])
    assert other.tier.read(["a/1"]) == [None]


def test_changes_past_the_tiers_are_seen_within_the_near_ttl(by_hand, far, clock, tmp_path, use):
    host = Host(far, clock, SQLiteStore(tmp_path / "near.db"), near_ttl=60)
    host.tier.write({"a/1": b"one"})
    host.tier.read(["a/1"])
    host.link.store.delete(["a/1"])
    clock.pass_by(50)
    assert use(host.tier, "read", ["a/1"]) == [b"one"]
    host.close()
    host = Host(far, clock, SQLiteStore(tmp_path / "near.db"), near_ttl=60)
    clock.pass_by(11)
    assert use(host.tier, "read", ["a/1"]) == [None]
    host.close()


def test_a_retired_entry_is_not_put_back_by_a_look_up_under_way(hosts, clock):
    one, other = hosts
    one.tier.write({"a/1": b"one"})
    read = other.link.store.read

    def read_slowly(keys):
        values = read(keys)
        if keys == ["a/1"]:
            other.link.store.read = read
            one.tier.delete(["a/1"])
            clock.pass_by(5)
            assert other.tier.read(["a/2"]) == [None]  # looks into the journal meanwhile
        return values

    other.link.store.read = read_slowly
    assert other.tier.read(["a/1"]) == [b"one"]  # as it was when it was asked for
    assert other.tier.read(["a/1"]) == [None]


@pytest.mark.parametrize("verb", ["write", "delete", "clear"])
def test_a_change_is_not_undone_by_a_look_up_under_way(host, verb):
    host.link.store.write({"a/1": b"old"})
    read = host.link.store.read
    change = {
        "write": lambda: host.tier.write({"a/1": b"new"}),
        "delete": lambda: host.tier.delete(["a/1"]),
        "clear": lambda: host.tier.clear("a"),
    }[verb]

    def read_slowly(keys):
        values = read(keys)
        if keys == ["a/1"]:
            host.link.store.read = read
            change()
        return values

    host.link.store.read = read_slowly
    host.tier.read(["a/1"])
    assert host.tier.read(["a/1"]) == [b"new" if verb == "write" else None]


def test_a_look_up_that_begins_amid_a_change_does_not_undo_it(host):
    host.link.store.write({"a/1": b"old"})
    assert host.tier.read(["a/2"]) == [None]
    write = host.link.store.write

    def write_slowly(entries, expires):
        if "a/1" in entries:
            host.near.delete(["a/1"])  # given up for others, as a near store does
            assert host.tier.read(["a/1"]) == [b"old"]
        write(entries, expires=expires)

    host.link.store.write = write_slowly
    host.tier.write({"a/1": b"new"})
    assert host.tier.read(["a/1"]) == [b"new"]


def test_a_change_amid_filling_the_near_tier_is_not_undone(host):
    host.link.store.write({"a/1": b"old"})
    assert host.tier.read(["a/2"]) == [None]
    write = host.near.write

    def fill_slowly(entries, expires):
        host.near.write = write
        host.tier.delete(["a/1"])
        write(entries, expires=expires)

    host.near.write = fill_slowly
    assert host.tier.read(["a/1"]) == [b"old"]
    assert host.tier.read(["a/1"]) == [None]


def test_what_a_dying_process_put_back_is_dropped_by_the_next(by_hand, far, clock, tmp_path):
    near = tmp_path / "near.db"
    host = Host(far, clock, SQLiteStore(near))
    host.tier.write({"a/1": b"one"})
    host.tier.delete(["a/1"])
    clock.pass_by(5)
    host.tier.read(["a/1"])
    host.near.write({"a/1": b"one"})
    host.close()
    host = Host(far, clock, SQLiteStore(near))
    assert host.tier.read(["a/1"]) == [None]
    host.close()


def test_tiers_over_tiers_follow_other_hosts(by_hand, hosts, clock, tmp_path, use):
    inner, other = hosts
    outer = TieredStore(MemoryStore(), inner.tier, clock=clock)
    use(outer, "write", {"a/1": b"one", "a/2": b"two"})
    assert use(outer, "read", ["a/1", "a/2"]) == [b"one", b"two"]
    use(other.tier, "delete", ["a/1"])
    clock.pass_by(5)
    assert use(outer, "read", ["a/1", "a/2"]) == [None, b"two"]
    use(other.tier, "read", ["a/2"])
    use(outer, "write", {"a/2": b"new"})
    clock.pass_by(5)
    assert use(other.tier, "read", ["a/2"]) == [b"new"]
    other.tier.delete(["a/2"])
    other.tier.write({"a/2": b"newer"})
    clock.pass_by(3)
    inner.tier.read(["a/2"])
    other.tier.write({"a/2": b"newest"})
    clock.pass_by(2)  # the outer tier's time has come to look, the inner one's not
    assert use(outer, "read", ["a/2"]) == [b"newest"]
    assert list(outer.keys()) == ["a/2"]
    assert use(outer, "clear", "") == 1
    clock.pass_by(5)
    assert use(other.tier, "read", ["a/2"]) == [None]


# Tags


def drive(store, steps):
    return run_flow(steps, store=store, call=None, observe=lambda event: None)


def test_a_tag_that_one_host_retires_is_retired_at_the_other_within_the_bound(hosts, clock):
    one, other = hosts
    tags = drive(one.tier, epochs_of("ns", ["news"], clock.now))
    assert drive(other.tier, are_current("ns", tags))
    one.tier.write(new_epochs("ns", ["news"], clock.now))
    assert not drive(one.tier, are_current("ns", tags))
    clock.pass_by(5)
    assert not drive(other.tier, are_current("ns", tags))


def test_hosts_that_begin_a_tag_at_the_same_moment_come_to_agree(hosts, clock):
    one, other = hosts
    for host in hosts:
        assert host.tier.read(["ns/tag/news"]) == [None]
    for host in hosts:
        host.tier.write(new_epochs("ns", ["news"], clock.now))
    clock.pass_by(5)
    assert one.tier.read(["ns/tag/news"]) == other.tier.read(["ns/tag/news"])


# Leases


def test_claims_are_those_of_the_far_tier(hosts, use):
    one, other = (host.tier.leases for host in hosts)
    assert use(one, "claim", ["a/1"]) == ["a/1"]
    assert use(other, "claim", ["a/1", "a/2"]) == ["a/2"]
    use(one, "release", ["a/1"])
    assert use(other, "claim", ["a/1"]) == ["a/1"]
    use(other, "release", ["a/1", "a/2"])


@pytest.mark.parametrize("down", [False, True])
def test_a_lease_lasts_as_long_as_it_is_told_to(host, use, down):
    leases = host.tier.leases
    leases.seconds = 77.0
    if down:
        host.link.go_down()
    use(leases, "claim", ["a/1"])
    inner = host.near.leases if down else host.link.leases
    assert inner.seconds == 77.0
    inner.release(["a/1"])


def test_processes_of_a_host_share_claims_while_the_far_tier_is_down(by_hand, far, clock, tmp_path, use):
    two = [Host(far, clock, SQLiteStore(tmp_path / "near.db")) for _ in range(2)]
    for host in two:
        host.link.go_down()
    one, other = (host.tier.leases for host in two)
    assert use(one, "claim", ["a/1"]) == ["a/1"]
    assert use(other, "claim", ["a/1"]) == []
    with pytest.raises(StoreError):
        use(one, "release", ["a/1"])
    assert use(other, "claim", ["a/1"]) == ["a/1"]
    for host in two:
        host.close()


def test_without_any_claims_everyone_may_ask(by_hand, far, clock, use):
    host = Host(far, clock)
    host.link.go_down()
    with pytest.raises(StoreError):
        use(host.tier.leases, "claim", ["a/1"])
    tier = TieredStore(MemoryStore(), MemoryStore())
    assert tier.leases is None
    tier.close()


# Everything else


def test_keys_are_those_of_both(host, use):
    host.tier.write({"a/1": b"one", "b/1": b"other"})
    host.near.write({"a/2": b"near only"})
    host.link.store.write({"a/3": b"far only"})
    assert sorted(host.tier.keys("a/")) == ["a/1", "a/2", "a/3"]
    host.link.go_down()
    with pytest.raises(StoreError):
        list(host.tier.keys())


def test_what_waits_is_sent_before_keys_are_listed(host):
    host.link.go_down()
    host.tier.write({"a/1": b"one"})
    with pytest.raises(StoreError):
        list(host.tier.keys())
    host.come_back()
    assert list(host.tier.keys()) == ["a/1"]


def test_tells_what_waits(host):
    assert not [finding for finding in host.tier.diagnose() if finding.check == "outbox"]
    host.link.go_down("write")
    host.tier.write({"a/1": b"one", "a/2": b"two"})
    host.come_back()
    (finding,) = [finding for finding in host.tier.diagnose() if finding.check == "outbox"]
    assert finding.told == "2 changes wait for the far store"


@pytest.mark.parametrize("verb", ["size", "evict", "vacuum", "prune", "clear"])
def test_upkeep_that_does_not_reach_both_is_an_error(host, use, verb):
    host.link.go_down()
    with pytest.raises(StoreError):
        use(host.tier, verb, *{"prune": (0.0,), "clear": ("",)}.get(verb, ()))


def test_the_background_sends_as_soon_as_it_can(tmp_path):
    far = Faulty(MemoryStore())
    sent = threading.Event()
    far.go_down()
    with TieredStore(MemoryStore(), far) as tier:
        tier.write({"a/1": b"one"})
        write = far.store.write

        def notice(entries, expires):
            write(entries, expires=expires)
            sent.set()

        far.store.write = notice
        far.come_back()
        assert sent.wait(60)
        assert far.store.read(["a/1"]) == [b"one"]


def test_closing_sends_what_waits(by_hand, far, clock):
    host = Host(far, clock)
    host.link.go_down()
    host.tier.write({"a/1": b"one"})
    host.come_back()
    asyncio.run(host.tier.aclose())
    assert far_content(far) == {"a/1": b"one"}


def test_what_is_lost_from_memory_is_logged(by_hand, far, clock, caplog):
    host = Host(far, clock)
    host.link.go_down()
    host.tier.write({"a/1": b"one"})
    with caplog.at_level(logging.WARNING, "askonce"):
        host.close()
    assert "what waited for the far store is lost" in caplog.text


def test_another_process_sends_what_a_killed_one_left(tmp_path):
    code = (
        "import os, signal, sys\n"
        "from askonce.stores.sqlite import SQLiteStore\n"
        "from askonce.stores.tiered import TieredStore\n"
        "from tests.stores.faults import Faulty\n"
        "far = Faulty(SQLiteStore(sys.argv[2]))\n"
        "far.go_down()\n"
        "tier = TieredStore(SQLiteStore(sys.argv[1]), far)\n"
        "for number in range(50):\n"
        "    tier.write({f'a/{number}': b'%d' % number})\n"
        "with tier._outbox.turn() as mine:\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", code, tmp_path / "near.db", tmp_path / "far.db"]
    killed = subprocess.run(command, cwd=ROOT, env=os.environ, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert far_content(tmp_path / "far.db") == {}
    with TieredStore(SQLiteStore(tmp_path / "near.db"), SQLiteStore(tmp_path / "far.db")) as tier:
        tier.flush()
    assert far_content(tmp_path / "far.db") == {f"a/{n}": b"%d" % n for n in range(50)}


def embed(texts):
    return np.array([[float(len(text)), 1.0] for text in texts], np.float32)


def test_a_cache_over_tiers_goes_on_while_the_far_one_is_down(hosts, clock):
    one, other = hosts
    events, asked = [], []

    def counted(texts):
        asked.extend(texts)
        return embed(texts)

    def cache(host):
        return askonce.EmbeddingCache(counted, model="m", store=host.tier, observe=events.append)

    cache(one).embed(["a", "bb"])
    cache(other).embed(["a", "bb"])
    assert asked == ["a", "bb"]
    one.link.go_down()
    for number in range(5):
        cache(one).embed(["a", "bb", f"text {number}"])
        clock.pass_by(0.01)
    assert len(asked) == 7
    told = [event.kind for event in events if event.kind.startswith("store_")]
    assert told == ["store_failed"]
    one.come_back()
    one.tier.flush()
    cache(other).embed([f"text {number}" for number in range(5)])
    assert len(asked) == 7
    cache(one).embed(["a"])
    told = [event.kind for event in events if event.kind.startswith("store_")]
    assert told == ["store_failed", "store_back"]


@pytest.mark.parametrize("scenario", [forks.use_in_both, forks.fork_amid_threads])
def test_survives_a_fork(tmp_path, scenario):
    alone(scenario, f"tiered+sqlite:///{tmp_path}/near.db?far=sqlite:///{tmp_path}/far.db")


# URLs


def test_opens_from_a_url(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open_store("tiered+sqlite:///near%20it.db?max_bytes=2MB&far=file:///far") as tier:
        assert tier.near.path == tmp_path / "near it.db"
        assert tier.near.max_bytes == 2_000_000
        assert isinstance(tier.far.store, FileStore)
        tier.write({"a/1": b"one"})
    assert not (tmp_path / "near it.db.outbox").exists()
    far = "sqlite:///far.db%3Fmax_bytes=3MB"
    url = f"tiered+memory://?far={far}&fresh_within=2&near_ttl=60&outbox=out&outbox_bytes=1MB"
    with open_store(url) as tier:
        assert isinstance(tier.near, MemoryStore)
        assert tier.far.store.max_bytes == 3_000_000
        assert tier._outbox.path.name == "out"
        assert tier._outbox.max_bytes == 1_000_000
        assert tier.retiring._fresh_within == 2
        assert tier.retiring._near_ttl == 60


def test_tiers_over_tiers(tmp_path):
    inner = f"tiered+sqlite:///{tmp_path}/near.db%3Ffar=file:///{tmp_path}/far"
    with open_store(f"tiered+memory://?far={inner}") as tier:
        tier.write({"a/1": b"one"})
        assert tier.far.store.far.store.read(["a/1"]) == [b"one"]


@pytest.mark.parametrize(
    "url",
    [
        "tiered+sqlite:///near.db",
        "tiered+memory://",
        "tiered+memory://?far=nonsense",
        "tiered+memory://?far=memory://&near_ttl=soon",
        "tiered+memory://?far=memory://&fresh_within=-1",
        "tiered+memory://?far=memory://&colour=blue",
        "tiered+nothing://?far=memory://",
        "tiered://?far=memory://",
    ],
)
def test_refuses_urls_it_cannot_use(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError):
        open_store(url)


def test_refuses_options_it_cannot_use():
    with pytest.raises(InputError, match="fresh_within"):
        askonce.tiered("memory://", "memory://", fresh_within=-1)
    with pytest.raises(InputError, match="near_ttl"):
        askonce.tiered("memory://", "memory://", near_ttl=0)


def test_joins_urls_and_stores(tmp_path):
    with askonce.tiered(MemoryStore(), f"file:///{tmp_path}/far") as tier:
        tier.write({"a/1": b"one"})
        assert tier.far.store.read(["a/1"]) == [b"one"]
