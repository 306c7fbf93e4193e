"""Claims are those of the far tier, and of the near one while that is down."""

import pytest

from askonce import StoreError
from askonce.stores.memory import MemoryStore
from askonce.stores.sqlite import SQLiteStore
from askonce.stores.tiered import TieredStore
from tests.stores.hosts import Host


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
