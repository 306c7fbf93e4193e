"""What is remembered of keys and strangers, and for how long without the store."""

import asyncio

import pytest

import askonce
from askonce import StoreError
from askonce.gateway import api_keys
from askonce.gateway.api_keys import PREFIX, KeyRing
from tests.alone import alone
from tests.gateway.api_keys.rings import NOW


async def test_the_store_is_asked_once_in_a_while(ring, store):
    secret, key = ring.create("laptop", now=NOW)
    reads = store.asked["aread"]
    for step in range(10):
        assert await ring.afind(secret, now=NOW + step / 10) == key
    assert store.asked["aread"] == reads + 1
    KeyRing(store).revoke(key.id, now=NOW)
    assert (await ring.afind(secret, now=NOW + 0.99)).revoked is None
    assert (await ring.afind(secret, now=NOW + 1)).revoked == NOW
    assert store.asked["aread"] == reads + 2


async def test_revoking_is_effective_here_at_once(ring):
    secret, key = ring.create("laptop", now=NOW)
    assert (await ring.afind(secret, now=NOW)).revoked is None
    ring.revoke(key.id, now=NOW)
    assert (await ring.afind(secret, now=NOW)).revoked == NOW


async def test_a_deleted_key_is_of_nobody(ring, store):
    secret, key = ring.create("laptop", now=NOW)
    assert await ring.afind(secret, now=NOW) == key
    store.delete([PREFIX + key.id])
    assert await ring.afind(secret, now=NOW + 1) is None


async def test_a_clock_that_is_set_back_remembers_nothing(ring):
    secret, key = ring.create("laptop", now=NOW)
    assert await ring.afind(secret, now=NOW) == key
    KeyRing(ring._store).revoke(key.id, now=NOW)
    assert (await ring.afind(secret, now=NOW - 3600)).revoked == NOW


async def test_all_at_once_ask_the_store_once(ring, store):
    secret, key = ring.create("laptop", now=NOW)
    wrong = secret[:-2] + "__"
    before = store.asked["aread"]
    keys = await asyncio.gather(
        *(ring.afind(one, now=NOW) for one in (secret, wrong) for _ in range(50))
    )
    assert keys == [key] * 50 + [None] * 50
    assert store.asked["aread"] == before + 1


async def test_who_goes_away_takes_the_answer_from_nobody(ring, store):
    secret, key = ring.create("laptop", now=NOW)
    may_answer = asyncio.Event()
    read = store.aread

    async def slow(keys):
        await may_answer.wait()
        return await read(keys)

    store.aread = slow
    first, second = (asyncio.create_task(ring.afind(secret, now=NOW)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    may_answer.set()
    assert await second == key
    assert first.cancelled()


async def test_guessing_is_remembered_too_within_bounds(ring, store, monkeypatch):
    monkeypatch.setattr(api_keys, "_STRANGERS", 10)
    secret, key = ring.create("laptop", now=NOW)
    await ring.afind(secret, now=NOW)
    guesses = [f"ask-{number:08d}-{'A' * 43}" for number in range(30)]
    before = store.asked["aread"]
    for guess in guesses[:10]:
        for _ in range(3):
            assert await ring.afind(guess, now=NOW) is None
    assert store.asked["aread"] == before + 10
    for guess in guesses:
        assert await ring.afind(guess, now=NOW + 0.5) is None
    assert len(ring._strangers) == 10
    before = store.asked["aread"]
    assert await ring.afind(secret, now=NOW + 0.5) == key, "strangers displace no key"
    assert store.asked["aread"] == before


@pytest.mark.parametrize("error", [StoreError("connection refused"), RuntimeError("a bug")])
async def test_without_the_store_a_known_key_is_known_for_a_minute(ring, store, error):
    secret, key = ring.create("laptop", now=NOW)
    assert await ring.afind(secret, now=NOW) == key
    store.error = error
    store.go_down()
    before = store.asked["aread"]
    for second in range(60):
        for _ in range(3):
            assert await ring.afind(secret, now=NOW + second) == key
        assert await ring.afind(secret[:-2] + "__", now=NOW + second) is None
    assert store.asked["aread"] == before + 59, "a failing store is asked no more often"
    with pytest.raises(StoreError, match="store of the gateway's keys fails"):
        await ring.afind(secret, now=NOW + 60)
    store.come_back()
    assert await ring.afind(secret, now=NOW + 60) == key


async def test_without_the_store_nobody_new_comes_in(ring, store):
    secret, _ = ring.create("laptop", now=NOW)
    store.go_down()
    for colour in (ring.afind(secret, now=NOW), asyncio.to_thread(ring.find, secret, now=NOW)):
        with pytest.raises(StoreError, match="connection refused") as raised:
            await colour
        assert secret[13:] not in str(raised.value)
    with pytest.raises(StoreError):
        ring.create("other", now=NOW)


def test_the_sync_colour_does_without_the_store_too(ring, store):
    secret, key = ring.create("laptop", now=NOW)
    assert ring.find(secret, now=NOW) == key
    store.go_down()
    assert ring.find(secret, now=NOW + 59) == key
    with pytest.raises(StoreError):
        ring.find(secret, now=NOW + 61)


def revoke_elsewhere(folder: str, number: str) -> None:
    with askonce.open_store(f"sqlite:///{folder}/keys.db") as store:
        KeyRing(store).revoke(number, now=NOW + 1)


async def test_another_process_revokes(tmp_path):
    with askonce.open_store(f"sqlite:///{tmp_path}/keys.db") as store:
        ring = KeyRing(store)
        secret, key = ring.create("laptop", now=NOW)
        assert await ring.afind(secret, now=NOW) == key
        alone(revoke_elsewhere, tmp_path, key.id)
        assert (await ring.afind(secret, now=NOW + 0.9)).revoked is None
        assert (await ring.afind(secret, now=NOW + 1)).revoked == NOW + 1
