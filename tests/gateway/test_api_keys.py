"""The gateway's own keys: made, recognised, revoked; forged and damaged ones; a store that fails."""

import asyncio
import dataclasses
import hashlib
import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import askonce
from askonce import InputError, StoreError, upkeep
from askonce.core import entry
from askonce.errors import InputTypeError, MissingExtraError
from askonce.gateway import api_keys
from askonce.gateway.api_keys import PREFIX, ApiKey, KeyRing
from askonce.gateway.places import default_keys_url
from askonce.stores.memory import MemoryStore
from tests.alone import alone
from tests.stores.faults import Faulty

NOW = 1_800_000_000.0
SECRET = re.compile(r"ask-[a-z0-9]{8}-[A-Za-z0-9_-]{43}")
texts = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=30)


@pytest.fixture
def store():
    return Faulty(MemoryStore())


@pytest.fixture
def ring(store):
    return KeyRing(store)


async def found(ring, secret, now=NOW):
    """Ask in both colours, with a ring of its own for one of them."""
    both = [KeyRing(ring._store).find(secret, now=now), await ring.afind(secret, now=now)]
    assert both[0] == both[1]
    return both[0]


def stored(store):
    keys = list(store.keys())
    return dict(zip(keys, store.read(keys), strict=True))


def rewrite(store, key, change):
    """Write a record as another version might: with a digest that fits."""
    (value,) = store.read([PREFIX + key.id])
    told = json.loads(value.partition(b"\n")[2])
    change(told)
    body = json.dumps(told).encode()
    head = b"ASKKEY1 " + hashlib.sha256(body).hexdigest().encode()
    store.write({PREFIX + key.id: head + b"\n" + body})


async def test_a_key_is_recognised_as_it_was_made(ring):
    secret, key = ring.create(
        "laptop",
        namespace="team",
        models=["gpt-5*", "claude-*"],
        requests_per_minute=60,
        budget_per_day=2.5,
        expires=NOW + 60,
        now=NOW,
    )
    assert SECRET.fullmatch(secret)
    assert secret.split("-")[1] == key.id
    assert key == ApiKey(
        key.id, "laptop", "team", ("gpt-5*", "claude-*"), 60, 2.5, NOW, NOW + 60, None
    )
    assert await found(ring, secret) == key
    assert ring.keys() == [key]


async def test_a_key_without_limits(ring):
    secret, key = ring.create("ci", now=NOW)
    assert key == ApiKey(key.id, "ci", f"key-{key.id}", (), None, None, NOW, math.inf, None)
    assert await found(ring, secret, now=NOW + 1e9) == key
    assert key.refusal(NOW + 1e9) is None
    assert key.allows("any") and key.allows("")


def test_two_keys_have_nothing_in_common(ring):
    (one, first), (two, second) = ring.create("a", now=NOW), ring.create("a", now=NOW + 1)
    assert one != two
    assert first.id != second.id and first.namespace != second.namespace
    assert ring.keys() == [first, second]


def test_models_are_patterns():
    key = ApiKey("abcdefgh", "n", "s", ("gpt-5*", "o[13]"), None, None, NOW, math.inf, None)
    assert [key.allows(model) for model in ("gpt-5", "gpt-5-mini", "o1", "o3")] == [True] * 4
    assert not any(key.allows(model) for model in ("", "GPT-5", "o2", "xgpt-5", "o1\n", "gpt-4"))


def test_refusal():
    key = ApiKey("abcdefgh", "n", "s", (), None, None, NOW, NOW + 10, None)
    assert key.refusal(NOW + 9.9) is None
    assert key.refusal(NOW + 10) == "expired"
    assert dataclasses.replace(key, revoked=NOW + 1).refusal(NOW + 2) == "revoked"


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "  "},
        {"name": "a\nb"},
        {"name": "\x1b[31m"},
        {"name": "n" * 201},
        {"name": 5},
        {"namespace": ""},
        {"namespace": "a\0"},
        {"models": [""]},
        {"models": [7]},
        {"models": "gpt-5"},
        {"requests_per_minute": 0},
        {"requests_per_minute": 1.5},
        {"requests_per_minute": True},
        {"budget_per_day": 0},
        {"budget_per_day": -1},
        {"budget_per_day": math.nan},
        {"budget_per_day": math.inf},
        {"budget_per_day": "5"},
        {"expires": NOW},
        {"expires": NOW - 1},
        {"expires": math.nan},
        {"expires": "tomorrow"},
    ],
    ids=repr,
)
def test_what_cannot_be_meant_makes_no_key(ring, store, wrong):
    with pytest.raises(InputError):
        ring.create(**{"name": "n", "now": NOW} | wrong)
    assert not stored(store)


def test_a_string_is_no_list_of_models(ring):
    with pytest.raises(InputTypeError, match="list of patterns"):
        ring.create("n", models="gpt-5", now=NOW)


async def test_a_revoked_key_stays_revoked(ring):
    secret, key = ring.create("laptop", now=NOW)
    revoked = ring.revoke(key.id, now=NOW + 5)
    assert revoked == dataclasses.replace(key, revoked=NOW + 5)
    assert ring.revoke("laptop", now=NOW + 9) == revoked
    assert (await found(ring, secret, NOW + 10)).refusal(NOW + 10) == "revoked"


def test_a_name_is_enough_if_it_means_one(ring):
    with pytest.raises(InputError, match="there is no key 'laptop'"):
        ring.revoke("laptop", now=NOW)
    old, new = (ring.create("laptop", now=NOW + second)[1] for second in (0, 1))
    with pytest.raises(InputError, match=f"{min(old.id, new.id)}, {max(old.id, new.id)}"):
        ring.revoke("laptop", now=NOW)
    ring.revoke(old.id, now=NOW)
    assert ring.revoke("laptop", now=NOW + 2).id == new.id
    with pytest.raises(InputError, match="several keys"):
        ring.revoke("laptop", now=NOW)


def test_an_id_goes_before_a_name(ring):
    _, key = ring.create("one", now=NOW)
    _, other = ring.create(key.id, now=NOW)
    assert ring.revoke(key.id, now=NOW).id == key.id
    assert ring.revoke(other.id, now=NOW).id == other.id


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


def test_more_keys_than_a_batch(ring, monkeypatch):
    monkeypatch.setattr(api_keys, "_AT_ONCE", 3)
    made = [ring.create(f"key {number}", now=NOW + number)[1] for number in range(10)]
    assert ring.keys() == made


def test_an_id_that_is_taken_is_not_given_again(ring, monkeypatch):
    letters = iter("a" * 8 + "a" * 8 + "b" * 8)
    monkeypatch.setattr(api_keys.secrets, "choice", lambda _: next(letters))
    assert ring.create("one", now=NOW)[1].id == "a" * 8
    assert ring.create("two", now=NOW)[1].id == "b" * 8


def test_the_default_store_is_the_users(tmp_path, monkeypatch):
    folder = tmp_path / "a b?c%41"
    monkeypatch.setattr("platformdirs.user_data_path", lambda *_, **__: folder)
    url = default_keys_url()
    with askonce.open_store(url) as store:
        KeyRing(store).create("laptop", now=NOW)
    assert (folder / "keys.db").stat().st_mode & 0o077 == 0


def test_what_the_default_store_needs(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "platformdirs", None)
    with pytest.raises(MissingExtraError, match=r"askonce\[gateway\]"):
        default_keys_url()
