"""The guard around a store that fails on command."""

import asyncio
import threading

import pytest

import askonce
from askonce import InputError, StoreError
from askonce.core.breaker import Breaker
from askonce.errors import StoreRefusedError, StoreUnavailableError
from askonce.stores.guarded import Guarded, deadline
from askonce.stores.memory import MemoryStore
from askonce.stores.sqlite import SQLiteStore
from askonce.testing import Opener, StoreTests
from tests.stores.faults import Faulty


class TestGuarded(StoreTests):
    @pytest.fixture
    def opener(self, tmp_path) -> Opener:
        # A busy machine is no reason to fail here.
        return lambda: Guarded(SQLiteStore(tmp_path / "store.db"), lookup_timeout=60, timeout=60)


class Clock:
    def __init__(self, now=1_000.0):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def server(tmp_path):
    with SQLiteStore(tmp_path / "store.db") as store:
        yield Faulty(store)


@pytest.fixture
def store(server, clock):
    breaker = Breaker(chance=lambda: 0.0)
    return Guarded(server, breaker=breaker, clock=clock, lookup_timeout=60, timeout=60)


def listed(store):
    async def listing():
        return [key async for key in store.akeys("a")]

    return asyncio.run(listing())


VERBS = {
    "read": lambda store: store.read(["a/1"]),
    "read_joined": lambda store: store.read_joined(["a/1"]),
    "write": lambda store: store.write({"a/1": b"x"}),
    "delete": lambda store: store.delete(["a/1"]),
    "keys": lambda store: list(store.keys()),
    "clear": lambda store: store.clear(""),
    "size": lambda store: store.size(),
    "prune": lambda store: store.prune(0.0),
    "evict": lambda store: store.evict(),
    "vacuum": lambda store: store.vacuum(),
    "claim": lambda store: store.leases.claim(["a/1"]),
    "take": lambda store: store.leases.take(["a/1"], "me", 1.0),
    "aread": lambda store: asyncio.run(store.aread(["a/1"])),
    "aread_joined": lambda store: asyncio.run(store.aread_joined(["a/1"])),
    "awrite": lambda store: asyncio.run(store.awrite({"a/1": b"x"})),
    "adelete": lambda store: asyncio.run(store.adelete(["a/1"])),
    "akeys": listed,
    "aclear": lambda store: asyncio.run(store.aclear("")),
    "asize": lambda store: asyncio.run(store.asize()),
    "aprune": lambda store: asyncio.run(store.aprune(0.0)),
    "aevict": lambda store: asyncio.run(store.aevict()),
    "avacuum": lambda store: asyncio.run(store.avacuum()),
    "aclaim": lambda store: asyncio.run(store.leases.aclaim(["a/1"])),
}


@pytest.mark.parametrize("verb", VERBS)
def test_the_first_failure_opens_and_later_calls_are_not_made(store, server, verb):
    server.go_down()
    with pytest.raises(StoreError, match="connection refused") as first:
        VERBS[verb](store)
    assert not isinstance(first.value, StoreUnavailableError)
    asked = server.asked.total()
    for other in VERBS.values():
        with pytest.raises(StoreUnavailableError, match=r"not asked.*connection refused"):
            other(store)
    assert server.asked.total() == asked


@pytest.mark.parametrize("verb", VERBS)
def test_any_verb_finds_out_that_the_server_is_back(store, server, clock, verb):
    server.go_down()
    with pytest.raises(StoreError):
        store.read(["a/1"])
    server.come_back()
    clock.now += 0.1
    VERBS[verb](store)
    assert store.trouble is None
    assert [event.kind for event in store.news] == ["store_back"]


@pytest.mark.parametrize("verb", ["write", "clear", "awrite", "aclear"])
def test_nothing_but_a_look_up_is_a_probe(store, server, clock, verb):
    server.go_down()
    with pytest.raises(StoreError):
        store.read(["a/1"])
    clock.now += 0.1
    server.asked.clear()
    with pytest.raises(StoreUnavailableError):
        VERBS[verb](store)
    assert set(server.asked) <= {"read", "aread"}
    assert server.asked.total() == 1


def test_only_one_of_many_threads_probes(store, server, clock):
    with pytest.raises(StoreError):
        server.go_down()
        store.read(["a/1"])
    clock.now += 0.1
    server.asked.clear()
    inside, go_on = threading.Event(), threading.Event()

    def hold(verb):
        inside.set()
        assert go_on.wait(60)

    server.fails = hold
    probe = threading.Thread(target=store.read, args=(["a/1"],))
    probe.start()
    assert inside.wait(60)
    for _ in range(5):
        with pytest.raises(StoreUnavailableError):
            store.read(["a/1"])
    go_on.set()
    probe.join()
    assert server.asked["read"] == 1
    assert store.read(["a/1"]) == [None]


def test_pauses_grow_while_probes_fail(store, server, clock):
    server.go_down()
    with pytest.raises(StoreError):
        store.read(["a/1"])
    server.asked.clear()
    for _ in range(1000):
        clock.now += 0.1
        with pytest.raises(StoreUnavailableError):
            store.read(["a/1"])
    assert 20 <= server.asked["read"] <= 30


@pytest.mark.parametrize("error", [StoreRefusedError("too large"), InputError("no such key")])
@pytest.mark.parametrize("verb", ["write", "awrite"])
def test_what_is_no_sign_of_a_sick_server_does_not_open(store, server, error, verb):
    server.error = error
    server.go_down("write")
    for _ in range(2):
        with pytest.raises(type(error)):
            VERBS[verb](store)
    assert store.read(["a/1"]) == [None]
    assert store.trouble is None


def test_an_error_that_is_none_of_ours_opens_too(store, server):
    server.error = OSError("a bug of the backend")
    server.go_down("read")
    with pytest.raises(StoreError, match="OSError: a bug of the backend"):
        store.read(["a/1"])
    with pytest.raises(StoreUnavailableError):
        store.read(["a/1"])


async def test_a_cancelled_probe_lets_another_one_go(store, server, clock):
    server.go_down()
    with pytest.raises(StoreError):
        await store.aread(["a/1"])
    server.come_back()
    clock.now += 0.1
    task = asyncio.create_task(store.aread(["a/1"]))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await store.aread(["a/1"]) == [None]
    assert store.trouble is None


class Hanging(MemoryStore):
    async def aread(self, keys):
        await asyncio.Event().wait()

    aread_joined = aread

    async def awrite(self, entries, *, expires=float("inf")):
        await asyncio.Event().wait()


async def test_async_look_ups_and_writes_have_a_deadline():
    store = Guarded(Hanging(), lookup_timeout=0.01, timeout=0.02)
    with pytest.raises(StoreError, match=r"within 0.01 seconds.*lookup_timeout"):
        await store.aread(["a/1"])
    with pytest.raises(StoreUnavailableError):
        await store.aread_joined(["a/1"])
    store = Guarded(Hanging(), lookup_timeout=0.01, timeout=0.02)
    with pytest.raises(StoreError, match=r"within 0.02 seconds"):
        await store.awrite({"a/1": b"x"})


async def test_a_busy_loop_is_not_taken_for_a_slow_store():
    loop = asyncio.get_running_loop()
    answer = loop.create_future()
    begun = loop.time()
    async with deadline(0.001):
        loop.call_soon(answer.set_result, b"it was there")
        while loop.time() < begun + 0.05:  # the program is at work meanwhile
            pass
        assert await answer == b"it was there"


def test_claims_of_a_server_that_is_down_are_let_go(store, server):
    leases = store.leases
    assert leases.claim(["a/1"]) == ["a/1"]
    server.go_down()
    with pytest.raises(StoreError):
        leases.release(["a/1"])
    assert not server.leases._held  # nothing renews it, so others get it when its time is over


def test_there_are_no_leases_where_the_store_has_none():
    assert Guarded(MemoryStore()).leases is None


def embed(texts):
    return [[float(len(text)), 1.0] for text in texts]


def test_a_dead_server_is_told_of_once_and_when_it_is_back(store, server, clock):
    events = []
    cache = askonce.EmbeddingCache(embed, model="m", store=store, observe=events.append)
    told = lambda: [event.kind for event in events if event.kind.startswith("store_")]
    server.go_down()
    for number in range(20):
        clock.now += 0.01
        assert cache.embed([f"text {number}"]).shape == (1, 2)
    assert told() == ["store_failed"]
    server.come_back()
    clock.now += 1.0
    cache.embed(["text 0"])
    assert told() == ["store_failed", "store_back"]
    cache.embed(["text 0"])
    assert events[-1].kind == "hit"
    assert told() == ["store_failed", "store_back"]


async def test_a_dead_server_is_told_of_once_in_async_code_too(store, server, clock):
    events = []
    cache = askonce.EmbeddingCache(embed, model="m", store=store, observe=events.append)
    server.go_down()
    await asyncio.gather(*(cache.aembed([f"text {number}"]) for number in range(20)))
    server.come_back()
    clock.now += 1.0
    await cache.aembed(["text 0"])
    told = [event.kind for event in events if event.kind.startswith("store_")]
    assert told == ["store_failed", "store_back"]


def test_what_happened_is_logged_without_an_observer(store, server, clock, caplog):
    cache = askonce.EmbeddingCache(embed, model="m", store=store)
    server.go_down()
    cache.embed(["a"])
    cache.embed(["a"])
    server.come_back()
    clock.now += 1.0
    cache.embed(["a"])
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 2
    assert "connection refused" in warnings[0]
    assert "the store is back" in warnings[1]


def test_a_guard_inside_another_is_left_to_work(server, clock):
    inner = Guarded(server, clock=clock)
    outer = Guarded(inner, clock=clock)
    server.go_down()
    with pytest.raises(StoreError):
        outer.read(["a/1"])
    with pytest.raises(StoreUnavailableError):
        outer.read(["a/1"])
    server.come_back()
    clock.now += 1.0
    assert outer.read(["a/1"]) == [None]
    assert outer.news is inner.news
    assert inner.trouble is None
    assert outer.trouble is None
