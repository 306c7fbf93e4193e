"""Counting by many writers: sums, limits, days, restarts, failing stores."""

import asyncio
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import askonce
from askonce import InputError
from askonce.core import entry
from askonce.gateway.api_keys import ApiKey
from askonce.gateway.ledger import PREFIX, Ledger
from askonce.stores.memory import MemoryStore
from tests.alone import alone
from tests.stores.faults import Faulty

DAY = 86400.0
NOW = 20_000 * DAY + 43_200.0
"""Noon of a UTC day."""

FREE = ApiKey("aaaaaaaa", "free", "s", (), None, None, 0.0, math.inf, None)
KEY = replace(FREE, name="laptop", requests_per_minute=10, budget_per_day=5.0)
OTHER = replace(KEY, id="bbbbbbbb", name="other")


@pytest.fixture
def store():
    return Faulty(MemoryStore())


def reason(ledger, key=KEY, now=NOW):
    refused = ledger.refusal(key, now=now)
    return refused and refused.reason


def is_spent(ledger, dollars, now=NOW):
    """Tell whether just these dollars are known to be spent; sums of 1/64 are exact."""
    budgets = (dollars, dollars + 1 / 64)
    below, above = (replace(FREE, budget_per_day=budget) for budget in budgets)
    return reason(ledger, below, now) == "budget_per_day" and reason(ledger, above, now) is None


async def exchange(*ledgers, now=NOW):
    for _ in range(2):
        for ledger in ledgers:
            await ledger.exchange(now=now)
            assert ledger.trouble is None


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


async def test_all_writers_count_together(store):
    one, two = (Ledger(store, writer=writer) for writer in "ab")
    for ledger in (one, two):
        for _ in range(5):
            ledger.note_request(KEY, now=NOW)
        ledger.note_spent(KEY, 2.5, now=NOW)
    assert reason(one) is reason(two) is None
    await exchange(one, two)
    for ledger in (one, two):
        assert reason(ledger) == "budget_per_day"
        assert reason(ledger, replace(KEY, budget_per_day=None)) == "requests_per_minute"
        assert reason(ledger, OTHER) is None


async def test_a_new_worker_knows_the_day_before_its_first_request(store):
    one = Ledger(store, writer="a")
    one.note_spent(KEY, 5.0, now=NOW)
    await exchange(one)
    restarted = Ledger(store, writer="b")
    await restarted.exchange(now=NOW + 100)
    assert reason(restarted, now=NOW + 100) == "budget_per_day"


costs = st.integers(1, 640).map(lambda number: number / 64)
deeds = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.sampled_from(["exchange", "restart", "fail", "request"]) | costs,
    ),
    max_size=40,
)


@given(deeds)
def test_whatever_the_order_the_sum_is_the_total(deeds):
    async def play():
        store = Faulty(MemoryStore())
        ledgers = {writer: Ledger(store, writer=writer) for writer in "abc"}
        counts = dict.fromkeys("abc", 0)
        names = iter(f"new{number}" for number in range(100))
        for writer, deed in deeds:
            ledger = ledgers[writer]
            if deed == "exchange":
                await ledger.exchange(now=NOW)
            elif deed == "fail":
                store.go_down()
                await ledger.exchange(now=NOW)
                store.come_back()
            elif deed == "restart":
                await ledger.exchange(now=NOW)
                ledgers[writer] = Ledger(store, writer=next(names))
            elif deed == "request":
                ledger.note_request(KEY, now=NOW)
                counts[writer] += 1
            else:
                ledger.note_spent(KEY, deed, now=NOW)
        spent = sum(deed for _, deed in deeds if isinstance(deed, float))
        asked = sum(counts.values())
        for ledger in ledgers.values():
            ledger.refusal(KEY, now=NOW)
        await exchange(*ledgers.values())
        for ledger in ledgers.values():
            if spent:
                assert is_spent(ledger, spent)
            free = replace(KEY, budget_per_day=None, requests_per_minute=asked + 1)
            assert reason(ledger, free) is None
            if asked:
                assert reason(ledger, replace(free, requests_per_minute=asked))

    asyncio.run(play())


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


async def test_minutes_go_on_over_midnight(store):
    midnight = 20_001 * DAY
    one, two = (Ledger(store, writer=writer) for writer in "ab")
    for _ in range(10):
        one.note_request(KEY, now=midnight - 3)
    one.note_spent(KEY, 5.0, now=midnight - 3)
    await one.exchange(now=midnight - 1)
    two.refusal(KEY, now=midnight + 3)
    await two.exchange(now=midnight + 3)
    assert reason(two, now=midnight + 3) == "requests_per_minute"
    one.note_request(KEY, now=midnight + 4)
    await exchange(one, two, now=midnight + 5)
    eleven = replace(KEY, requests_per_minute=12)
    assert reason(two, eleven, now=midnight + 5) is None
    assert reason(two, replace(KEY, requests_per_minute=11), now=midnight + 5)
    assert reason(two, KEY, now=midnight + 100) is None


async def test_old_days_are_deleted_and_may_be_reclaimed(store):
    for day in range(3):
        ledger = Ledger(store, writer=f"w{day}")
        ledger.note_spent(KEY, 1.0, now=NOW + day * DAY)
        await exchange(ledger, now=NOW + day * DAY)
    keys = sorted(store.keys())
    assert keys == [f"{PREFIX}2024-10-05/w1", f"{PREFIX}2024-10-06/w2"]
    assert entry.unpack(store.read(keys)[1]).expires == 20_004 * DAY
    assert store.store.prune(20_004 * DAY) == 2


async def test_what_others_leave_under_the_prefix_is_left_alone(store):
    strange = {f"{PREFIX}0001-01-01": b"x", f"{PREFIX}2024-10-04/a b": b"x"}
    store.write({**strange, f"{PREFIX}2024-10-04/z": b"x"})
    ledger = Ledger(store, writer="a")
    ledger.note_spent(KEY, 1.0, now=NOW)
    await exchange(ledger)
    assert is_spent(ledger, 1.0)
    assert set(strange) <= set(store.keys())


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"{}",
        b'{"spent": [], "asked": {}}',
        b'{"spent": {"aaaaaaaa": "much"}, "asked": {}}',
        b'{"spent": {}, "asked": {"aaaaaaaa": 5}}',
        b'{"spent": {}, "asked": {"aaaaaaaa": {"x": 1}}}',
    ],
)
async def test_damaged_counts_count_nothing_and_harm_nobody(store, payload):
    for value in (payload, entry.pack(entry.Entry(payload, 3, NOW))):
        store.write({f"{PREFIX}2024-10-04/z": value})
        ledger = Ledger(store, writer="a")
        ledger.note_spent(KEY, 1.0, now=NOW)
        await exchange(ledger)
        assert is_spent(ledger, 1.0)


async def test_what_was_spent_does_not_shrink(store):
    one, two = (Ledger(store, writer=writer) for writer in "ab")
    one.note_spent(KEY, 3.0, now=NOW)
    two.note_spent(KEY, 2.0, now=NOW)
    await exchange(one, two)
    store.clear("")
    for ledger in (one, two):
        ledger.refusal(KEY, now=NOW)
    await exchange(one, two)
    assert is_spent(one, 5.0) and is_spent(two, 5.0)
    fresh = Ledger(store, writer="c")
    await exchange(fresh)
    assert is_spent(fresh, 5.0), "each wrote its own counts again"


async def test_a_store_that_fails_breaks_nothing(store):
    one, two = (Ledger(store, writer=writer) for writer in "ab")
    store.go_down()
    for ledger in (one, two):
        ledger.note_spent(KEY, 2.0, now=NOW)
        await ledger.exchange(now=NOW)
        assert ledger.trouble == "StoreError: connection refused"
    one.note_spent(KEY, 1.0, now=NOW)
    assert is_spent(one, 3.0)
    store.error = RuntimeError("a bug")
    await one.exchange(now=NOW)
    assert one.trouble == "RuntimeError: a bug"
    store.come_back()
    await exchange(one, two)
    assert is_spent(one, 5.0) and is_spent(two, 5.0)


async def test_a_store_that_takes_nothing_still_tells_of_others(store):
    one, two = (Ledger(store, writer=writer) for writer in "ab")
    one.note_spent(KEY, 5.0, now=NOW)
    await exchange(one)
    store.go_down("write")
    two.note_spent(KEY, 1.0, now=NOW)
    await two.exchange(now=NOW)
    assert "connection refused" in two.trouble
    assert is_spent(two, 6.0)


async def test_a_request_that_comes_while_counts_are_written_is_written_next(store):
    ledger = Ledger(store, writer="a")
    write = store.awrite

    async def slow(entries, **options):
        ledger.note_spent(KEY, 1.0, now=NOW)
        store.awrite = write
        await write(entries, **options)

    store.awrite = slow
    ledger.note_spent(KEY, 1.0, now=NOW)
    await exchange(ledger)
    fresh = Ledger(store, writer="b")
    await exchange(fresh)
    assert is_spent(fresh, 2.0)


async def test_exchanges_take_turns(store):
    ledger = Ledger(store, writer="a")
    write = store.awrite

    async def slow(entries, **options):
        await asyncio.sleep(0)
        await write(entries, **options)

    store.awrite = slow
    ledger.note_spent(KEY, 1.0, now=NOW)
    await asyncio.gather(*(ledger.exchange(now=NOW) for _ in range(10)))
    assert store.asked["awrite"] == 1


async def test_who_idles_leaves_the_store_alone(store):
    ledger = Ledger(store, writer="a")
    ledger.note_request(KEY, now=NOW)
    await exchange(ledger, now=NOW + 1)
    before = store.asked.total()
    await exchange(ledger, now=NOW + 30)
    assert store.asked.total() > before
    before = store.asked.total()
    await exchange(ledger, now=NOW + 63)
    assert store.asked.total() == before
    ledger.refusal(KEY, now=NOW + 70)
    await exchange(ledger, now=NOW + 70)
    assert store.asked.total() > before


async def test_nothing_is_kept_of_minutes_and_days_that_are_over(store):
    ledger, other = (Ledger(store, writer=writer) for writer in "ab")
    for number in range(200):
        now = NOW + number * DAY / 4
        key = replace(KEY, id=f"{number:08d}")
        for ledger_ in (ledger, other):
            ledger_.note_request(key, now=now)
            ledger_.note_request(KEY, now=now)
            ledger_.note_spent(key, 1.0, now=now)
        await exchange(ledger, other, now=now)
    assert len(ledger._spent) <= 2 and len(ledger._asked) <= 2 and len(ledger._others) <= 2
    assert all(len(slots) == 1 for slots in ledger._asked.values())
    assert len(list(store.keys())) <= 4


async def test_a_clock_far_ahead_locks_nobody_out(store):
    ahead, ours = (Ledger(store, writer=writer) for writer in "ab")
    for _ in range(10):
        ahead.note_request(KEY, now=NOW + 3600)
    await exchange(ahead, now=NOW + 3600)
    ours.refusal(KEY, now=NOW)
    await exchange(ours)
    assert reason(ours) is None
    for _ in range(10):
        ahead.note_request(KEY, now=NOW + 5)
    await exchange(ahead, now=NOW + 5)
    await exchange(ours)
    assert ours.refusal(KEY, now=NOW).retry_after == 66


@pytest.mark.parametrize("writer", ["", "a/b", "a b", "é"])
def test_a_writer_is_part_of_a_key(store, writer):
    with pytest.raises(InputError):
        Ledger(store, writer=writer)


def spend_elsewhere(folder: str, writer: str) -> None:
    async def work():
        with askonce.open_store(f"sqlite:///{folder}/keys.db") as store:
            ledger = Ledger(store, writer=writer)
            for _ in range(50):
                ledger.note_spent(KEY, 1 / 64, now=NOW)
                ledger.note_request(KEY, now=NOW)
                await ledger.exchange(now=NOW)
                assert ledger.trouble is None

    asyncio.run(work())


async def test_two_processes_count_together(tmp_path):
    await asyncio.gather(
        *(asyncio.to_thread(alone, spend_elsewhere, tmp_path, writer) for writer in "ab")
    )
    with askonce.open_store(f"sqlite:///{tmp_path}/keys.db") as store:
        ledger = Ledger(store, writer="c")
        await exchange(ledger)
        assert is_spent(ledger, 100 / 64)
        many = replace(KEY, budget_per_day=None, requests_per_minute=100)
        assert reason(ledger, many) == "requests_per_minute"
        assert reason(ledger, replace(many, requests_per_minute=101)) is None
