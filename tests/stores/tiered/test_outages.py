"""A tier that fails on command: the other serves, and what could not be written waits."""

import asyncio

import pytest

from askonce import StoreError
from askonce.errors import StoreRefusedError
from askonce.stores.guarded import Guarded
from askonce.stores.memory import MemoryStore
from askonce.stores.tiered import TieredStore
from tests.stores.faults import Faulty
from tests.stores.hosts import Host, far_content


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
