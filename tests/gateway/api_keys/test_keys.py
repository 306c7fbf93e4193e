"""Keys as they are made, named, limited and revoked."""

import dataclasses
import math
import re

import pytest

from askonce import InputError
from askonce.errors import InputTypeError
from askonce.gateway import api_keys
from askonce.gateway.api_keys import ApiKey
from tests.gateway.api_keys.rings import NOW, found, stored

SECRET = re.compile(r"ask-[a-z0-9]{8}-[A-Za-z0-9_-]{43}")


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


def test_more_keys_than_a_batch(ring, monkeypatch):
    monkeypatch.setattr(api_keys, "_AT_ONCE", 3)
    made = [ring.create(f"key {number}", now=NOW + number)[1] for number in range(10)]
    assert ring.keys() == made


def test_an_id_that_is_taken_is_not_given_again(ring, monkeypatch):
    letters = iter("a" * 8 + "a" * 8 + "b" * 8)
    monkeypatch.setattr(api_keys.secrets, "choice", lambda _: next(letters))
    assert ring.create("one", now=NOW)[1].id == "a" * 8
    assert ring.create("two", now=NOW)[1].id == "b" * 8
