"""The tests of all leases, over Redis."""

import pytest

from askonce import open_store
from tests.servers.redis import SERVERS, give_redis
from tests.test_leases import *  # noqa: F403


@pytest.fixture(params=SERVERS)
def pair(request, give_redis):
    """Two openings of one store, as two hosts have them."""
    url = give_redis(request.param).url("?lookup_timeout=30&timeout=30")
    # What is put around a store keeps no leases of its own.
    with open_store(url).store as one, open_store(url).store as other:
        yield one, other


def test_many_keys_are_taken_even_if_others_hold_some(pair):
    one, other = (store.leases for store in pair)
    keys = [f"a/{number}" for number in range(1500)]
    assert other.claim(keys[::3]) == keys[::3]
    assert one.claim(keys) == [key for place, key in enumerate(keys) if place % 3]
    other.release(keys)
    assert one.claim(keys) == keys


def test_leases_survive_clear_and_keep_their_time(pair):
    one, other = pair
    one.leases.claim(["a/1"])
    one.write({"a/1": b"x"})
    assert one.clear("") == 1
    assert one.clear("lease:") == 0
    assert other.leases.claim(["a/1"]) == []
