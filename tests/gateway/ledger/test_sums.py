"""Many writers count together, whatever the order, through restarts and failures."""

import asyncio
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

import askonce
from askonce.gateway.ledger import Ledger
from askonce.stores.memory import MemoryStore
from tests.alone import alone
from tests.gateway.ledger.counting import KEY, NOW, OTHER, exchange, is_spent, reason
from tests.stores.faults import Faulty


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
