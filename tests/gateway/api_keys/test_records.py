"""What is stored of a key, and that nothing forged or damaged is one."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askonce import InputError, upkeep
from askonce.core import entry
from askonce.gateway.api_keys import PREFIX, KeyRing
from askonce.stores.memory import MemoryStore
from tests.gateway.api_keys.rings import NOW, found, rewrite, stored

texts = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=30)


async def test_a_forged_secret_is_of_nobody(ring, store):
    secret, key = ring.create("laptop", now=NOW)
    other, _ = ring.create("other", now=NOW)
    tail = secret[13:]
    asked = store.asked.total()
    for forged in [
        "",
        "ask-",
        key.id,
        secret[:-1],
        secret + "a",
        secret + "\n",
        " " + secret,
        secret.upper(),
        f"sk-{key.id}-{tail}",
        f"ask-{key.id[:7]}/-{tail}",
        f"ask-../key/-{tail}",
        f"ask-{key.id}-{'é' * 43}",
        f"ask-{key.id}-{chr(0xD800) * 43}",
    ]:
        assert await found(ring, forged) is None
    assert store.asked.total() == asked, "what no key looks like is not looked up"
    last = "A" if secret[-1] != "A" else "B"
    for forged in [
        secret[:-1] + last,
        f"ask-{key.id}-{other[13:]}",
        f"ask-{key.id}-{tail.swapcase()}",
        f"ask-zzzzzzzz-{tail}",
    ]:
        assert await found(ring, forged) is None
    assert await found(ring, secret) == key


async def test_a_record_under_another_id_is_no_key(ring, store):
    secret, key = ring.create("laptop", now=NOW)
    store.write({f"{PREFIX}zzzzzzzz": stored(store)[PREFIX + key.id]})
    assert await found(ring, f"ask-zzzzzzzz-{secret[13:]}") is None
    assert ring.unreadable() == ["zzzzzzzz"]
    assert ring.keys() == [key]


@given(place=st.integers(0), mask=st.integers(1, 255))
def test_a_damaged_record_is_no_key(place, mask):
    store = MemoryStore()
    ring = KeyRing(store)
    secret, key = ring.create("laptop", requests_per_minute=60, now=NOW)
    value = bytearray(store.read([PREFIX + key.id])[0])
    value[place % len(value)] ^= mask
    store.write({PREFIX + key.id: bytes(value)})
    assert ring.find(secret, now=NOW) is None
    assert ring.keys() == []
    assert ring.unreadable() == [key.id]


@given(cut=st.integers(0, 400))
def test_a_record_cut_short_is_no_key(cut):
    store = MemoryStore()
    ring = KeyRing(store)
    secret, key = ring.create("laptop", now=NOW)
    value = store.read([PREFIX + key.id])[0]
    store.write({PREFIX + key.id: value[:cut]})
    assert ring.find(secret, now=NOW) == (key if cut >= len(value) else None)


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told.update(tokens_per_minute=100),
        lambda told: told.pop("budget_per_day"),
        lambda told: told.pop("digest"),
        lambda told: told.update(digest=5),
        lambda told: told.update(digest="zz"),
        lambda told: told.update(models=None),
        lambda told: told.update(models=[3]),
        lambda told: told.update(requests_per_minute="60"),
        lambda told: told.update(budget_per_day=math.nan),
        lambda told: told.update(expires="never"),
        lambda told: told.update(id="zzzzzzzz"),
        lambda told: told.update(id=None),
    ],
)
async def test_a_record_that_is_not_understood_is_no_key(ring, store, change):
    secret, key = ring.create("laptop", now=NOW)
    rewrite(store, key, lambda told: None)
    assert await found(ring, secret) == key
    rewrite(store, key, change)
    assert await found(ring, secret, NOW + 1) is None
    assert ring.unreadable() == [key.id]
    with pytest.raises(InputError, match="newest askonce"):
        ring.revoke(key.id, now=NOW)
    with pytest.raises(InputError, match="no key"):
        ring.revoke("laptop", now=NOW)


@given(
    name=texts,
    namespace=st.none() | texts,
    models=st.lists(texts, max_size=3),
    requests_per_minute=st.none() | st.integers(1, 10**6),
    budget_per_day=st.none() | st.floats(0.001, 1e6),
    lifetime=st.floats(1, 1e9) | st.just(math.inf),
)
def test_no_secret_is_stored_and_nothing_else_is_lost(name, lifetime, **limits):
    store = MemoryStore()
    ring = KeyRing(store)
    secret, key = ring.create(name, **limits, expires=NOW + lifetime, now=NOW)
    assert KeyRing(store).find(secret, now=NOW) == key
    ring.revoke(key.id, now=NOW)
    content = b"".join(k.encode() + value for k, value in stored(store).items())
    random = secret.removeprefix(f"ask-{key.id}-")
    assert len(random) == 43
    assert not any(random[start : start + 8].encode() in content for start in range(36))
    assert random not in repr(key)


def test_what_cleans_caches_leaves_keys_alone(ring, store):
    ring.create("laptop", expires=NOW + 1, now=NOW)
    assert upkeep.prune(store.store, now=NOW + 1e9, older_than=1.0) == 0
    assert upkeep.verify(store.store).foreign == 1
    assert not store.read(list(store.keys()))[0].startswith(entry.MAGIC)
    assert len(ring.keys()) == 1
