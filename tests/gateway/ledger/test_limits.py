"""Requests of a minute and dollars of a day, as one writer counts them."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askonce import InputError
from askonce.gateway.ledger import Ledger
from askonce.stores.memory import MemoryStore
from tests.gateway.ledger.counting import DAY, FREE, KEY, NOW, OTHER, exchange, is_spent, reason


async def test_requests_of_a_minute(store):
    ledger = Ledger(store, writer="a")
    for _ in range(10):
        assert ledger.refusal(KEY, now=NOW) is None
        ledger.note_request(KEY, now=NOW)
    refused = ledger.refusal(KEY, now=NOW + 30)
    assert refused.reason == "requests_per_minute"
    assert refused.retry_after == 32
    assert refused.message == "the key 'laptop' has asked its 10 times a minute; ask again in 32 s"
    assert ledger.refusal(OTHER, now=NOW + 30) is None
    assert ledger.refusal(KEY, now=NOW + 62) is None


async def test_dollars_of_a_day(store):
    ledger = Ledger(store, writer="a")
    ledger.note_spent(KEY, 4.99, now=NOW)
    assert ledger.refusal(KEY, now=NOW) is None
    ledger.note_spent(KEY, 0.02, now=NOW)
    refused = ledger.refusal(KEY, now=NOW)
    assert refused.reason == "budget_per_day"
    assert refused.retry_after == DAY / 2
    assert "$5.00" in refused.message and "00:00 UTC" in refused.message
    assert ledger.refusal(OTHER, now=NOW) is None
    assert reason(ledger, now=NOW + DAY / 2 - 1) == "budget_per_day"
    assert reason(ledger, now=NOW + DAY / 2) is None


async def test_what_is_no_cost_is_not_added(store):
    ledger = Ledger(store, writer="a")
    ledger.note_spent(KEY, 1.0, now=NOW)
    for dollars in (0.0, -1.0, math.nan, math.inf):
        ledger.note_spent(KEY, dollars, now=NOW)
    assert is_spent(ledger, 1.0)


async def test_a_key_without_limits_costs_nothing(store):
    ledger = Ledger(store, writer="a")
    await exchange(ledger)
    before = store.asked.total()
    for _ in range(100):
        assert ledger.refusal(FREE, now=NOW) is None
        ledger.note_request(FREE, now=NOW)
        ledger.note_spent(FREE, 1e9, now=NOW)
    await exchange(ledger)
    assert store.asked.total() == before


@given(
    limit=st.integers(1, 8),
    steps=st.lists(st.integers(0, 80).map(lambda number: number / 4), max_size=120),
)
def test_in_no_minute_are_there_more_and_waiting_helps(limit, steps):
    key = replace(FREE, requests_per_minute=limit)
    ledger = Ledger(MemoryStore(), writer="a")
    now = NOW
    admitted = []
    for step in steps:
        now += step
        refused = ledger.refusal(key, now=now)
        if refused is None:
            ledger.note_request(key, now=now)
            admitted.append(now)
            continue
        assert 0 < refused.retry_after <= 62
        assert ledger.refusal(key, now=now + refused.retry_after) is None
        assert ledger.refusal(key, now=now + refused.retry_after - 0.01) is not None
        # Nobody waits much longer than a minute of which we are certain demands.
        assert len([one for one in admitted if one > now - 62]) >= limit
    for index, first in enumerate(admitted):
        assert len([one for one in admitted[index:] if one <= first + 60]) <= limit


@pytest.mark.parametrize("writer", ["", "a/b", "a b", "é"])
def test_a_writer_is_part_of_a_key(store, writer):
    with pytest.raises(InputError):
        Ledger(store, writer=writer)
