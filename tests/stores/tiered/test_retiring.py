"""What one host retires is gone at the other within the bound: the journal."""

import pytest

from askonce.core.flow import run as run_flow
from askonce.http.tags import are_current, epochs_of, new_epochs
from askonce.stores.retiring import JOURNAL
from askonce.stores.sqlite import SQLiteStore
from tests.stores.hosts import Host, blob

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
