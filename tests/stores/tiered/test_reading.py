"""What the near tier gives, and what the far tier is asked for."""

from askonce.stores.memory import MemoryStore
from askonce.stores.sqlite import SQLiteStore
from tests.stores.hosts import Host, blob


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
