"""Look-ups and changes that go on at the same moment, and tiers over tiers."""

import pytest

from askonce.stores.memory import MemoryStore
from askonce.stores.sqlite import SQLiteStore
from askonce.stores.tiered import TieredStore
from tests.stores.hosts import Host


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
