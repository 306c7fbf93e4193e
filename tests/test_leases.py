"""Leases: one holder a key, taken over from the dead, never in anybody's way."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import askonce
from askonce.core.lease import Leases
from askonce.core.store import Store

URLS = ["sqlite:///{}/cache.db", "lmdb:///{}/cache", "file:///{}/cache"]


@pytest.fixture(params=URLS)
def pair(request, tmp_path) -> Iterator[tuple[Store, Store]]:
    """Two openings of one store, as two processes have them."""
    url = request.param.format(tmp_path)
    with askonce.open_store(url) as one, askonce.open_store(url) as other:
        yield one, other


def leases(store: Store) -> Leases:
    assert store.leases is not None
    return store.leases


def test_a_key_is_granted_to_one_holder(pair):
    one, other = map(leases, pair)
    assert one.claim(["a", "b"]) == ["a", "b"]
    assert other.claim(["b", "c"]) == ["c"]
    one.release(["a", "b"])
    assert other.claim(["a", "b"]) == ["a", "b"]


def test_a_holder_may_claim_again(pair):
    one, _ = map(leases, pair)
    assert one.claim(["a"]) == ["a"]
    assert one.claim(["a"]) == ["a"]


def test_nobody_releases_what_another_holds(pair):
    one, other = map(leases, pair)
    one.claim(["a"])
    other.release(["a"])
    other.drop(["a"], "somebody else")
    assert other.claim(["a"]) == []


def test_a_lease_that_ran_out_is_taken_over(pair):
    one, other = map(leases, pair)
    assert one.take(["a"], "the dead", -1.0) == ["a"]
    assert other.claim(["a"]) == ["a"]


def test_renewing_keeps_a_lease(pair):
    one, other = map(leases, pair)
    one.take(["a"], "the slow", -1.0)
    one.renew(["a"], "the slow", 60.0)
    assert other.claim(["a"]) == []


def test_renewing_does_not_take_back_what_was_taken_over(pair):
    one, other = map(leases, pair)
    one.take(["a"], "the frozen", -1.0)
    assert other.claim(["a"]) == ["a"]
    one.renew(["a"], "the frozen", 60.0)
    assert one.take(["a"], "the frozen", 60.0) == []


def test_many_keys_at_once(pair):
    one, other = map(leases, pair)
    keys = [f"namespace/embedding/model/{number}" for number in range(5000)]
    assert one.claim(keys[:3000]) == keys[:3000]
    assert other.claim(keys) == keys[3000:]


async def test_the_async_verbs_are_the_same_leases(pair):
    one, other = map(leases, pair)
    assert await one.aclaim(["a"]) == ["a"]
    assert other.claim(["a"]) == []
    await one.arelease(["a"])
    assert await other.aclaim(["a"]) == ["a"]


async def test_a_cancelled_claim_is_let_go(pair):
    one, other = map(leases, pair)
    claiming = asyncio.ensure_future(one.aclaim(["a"]))
    await asyncio.sleep(0)
    claiming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await claiming
    for _ in range(500):
        if other.claim(["a"]):
            return
        await asyncio.sleep(0.01)
    pytest.fail("the key stayed claimed")


def test_a_claim_that_is_granted_after_its_event_loop_ended_is_let_go(pair):
    one, other = map(leases, pair)
    began, go_on = threading.Event(), threading.Event()
    take = one.take

    def slow(*arguments):
        began.set()
        assert go_on.wait(30)
        return take(*arguments)

    async def give_up():
        claiming = asyncio.ensure_future(one.aclaim(["a"]))
        while not began.is_set():
            await asyncio.sleep(0.001)
        claiming.cancel()
        with pytest.raises(asyncio.CancelledError):
            await claiming

    one.take = slow
    with asyncio.Runner() as runner:
        runner.run(give_up())
        go_on.set()
    assert other.claim(["a"]) == ["a"]


def test_a_release_that_nobody_waits_for_is_carried_out(pair):
    one, other = map(leases, pair)
    one.claim(["a"])
    busy = threading.Event()

    async def give_up():
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        waiting = loop.run_in_executor(None, busy.wait, 30)
        releasing = asyncio.ensure_future(one.arelease(["a"]))
        await asyncio.sleep(0)
        releasing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await releasing
        busy.set()
        await waiting

    asyncio.run(give_up())
    assert other.claim(["a"]) == ["a"]


def test_the_slow_keep_their_lease_by_themselves(pair):
    one, other = map(leases, pair)
    one.seconds = 0.15
    renewed = threading.Event()
    renew = one.renew

    def watched(*arguments):
        renew(*arguments)
        renewed.set()

    one.renew = watched
    one.claim(["a"])
    assert renewed.wait(30)
    one.release(["a"])
    assert other.claim(["a"]) == ["a"]


def test_leases_are_no_entries(pair):
    one, _ = pair
    leases(one).claim(["a"])
    assert list(one.keys()) == []


def embedder(asked):
    def embed(texts):
        asked.extend(texts)
        return np.ones((len(texts), 3), np.float32)

    return embed


def test_a_waiter_asks_itself_when_its_patience_ends(pair):
    one, other = pair
    asked: list[str] = []
    cache = askonce.EmbeddingCache(embedder(asked), model="m", store=other, wait=0.05)
    probe = askonce.EmbeddingCache(embedder([]), model="m", store=askonce.open_store("memory://"))
    probe.embed(["a"])
    leases(one).claim(list(probe.store.keys()))
    assert cache.embed(["a"]).shape == (1, 3)
    assert asked == ["a"]


def test_a_failed_call_lets_others_ask_at_once(pair):
    one, other = pair

    def broken(texts):
        raise ConnectionError("no provider")

    asked: list[str] = []
    with pytest.raises(ConnectionError):
        askonce.EmbeddingCache(broken, model="m", store=one).embed(["a"])
    askonce.EmbeddingCache(embedder(asked), model="m", store=other).embed(["a"])
    assert asked == ["a"]


def test_claims_that_cannot_be_had_do_not_stop_a_call(pair):
    one, _ = pair

    class Broken(Leases):
        def take(self, keys, holder, seconds):
            raise OSError("no claims here")

        renew = drop = take

    events = []
    one.__dict__["leases"] = Broken()
    asked: list[str] = []
    cache = askonce.EmbeddingCache(embedder(asked), model="m", store=one, observe=events.append)
    cache.embed(["a"])
    assert asked == ["a"]
    assert "store_failed" in [event.kind for event in events]
    cache.embed(["a"])
    assert asked == ["a"]


def test_what_is_released_while_it_is_renewed_is_not_held_again():
    """Some backends give a key that is free to whoever renews it."""
    held: set[str] = set()
    renewing, released = threading.Event(), threading.Event()

    class Reviving(Leases):
        def take(self, keys, holder, seconds):
            held.update(keys)
            return list(keys)

        def renew(self, keys, holder, seconds):
            renewing.set()
            assert released.wait(20)
            held.update(keys)

        def drop(self, keys, holder):
            held.difference_update(keys)

    reviving = Reviving(seconds=0.03)
    reviving.claim(["a"])
    assert renewing.wait(20)
    reviving.release(["a"])
    renewer = reviving._renewer
    released.set()
    renewer.join(20)
    assert not held
