"""Minutes and days that are over, and clocks that are wrong."""

from dataclasses import replace

import pytest

from askonce.core import entry
from askonce.gateway.ledger import PREFIX, Ledger
from tests.gateway.ledger.counting import DAY, KEY, NOW, exchange, is_spent, reason


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
