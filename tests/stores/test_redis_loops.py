"""A Redis store in many event loops, tasks, threads and processes."""

import asyncio
import contextlib
import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from askonce import StoreError
from tests.alone import alone
from tests.servers.redis import SERVERS, give_redis
from tests.stores import forks
from tests.stores.redis_asking import PATIENT, unguarded, until


@pytest.fixture(params=SERVERS)
def server(request, give_redis):
    return give_redis(request.param)


@pytest.fixture
def redis8(give_redis):
    return give_redis("redis8")


def test_several_loops_at_the_same_time(server):
    store = unguarded(server.url(PATIENT))
    together = threading.Barrier(4)

    async def use(number):
        await store.awrite({f"a/{number}": b"x"})
        together.wait()  # while all of them have connections
        for turn in range(20):
            await store.awrite({f"a/{number}": bytes([turn])})
            assert await store.aread([f"a/{number}"]) == [bytes([turn])]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: asyncio.run(use(number)), range(4)))
    assert len(list(store.keys())) == 4
    store.close()


def test_connections_end_with_their_loop(redis8):
    store = unguarded(redis8.url(PATIENT))

    async def use():
        await asyncio.gather(*(store.aread([f"a/{number}"]) for number in range(10)))
        return _count_clients(redis8)

    assert asyncio.run(use()) > 1
    gc.collect()
    until(lambda: _count_clients(redis8) == 1)
    assert len(store._server._loops) <= 1
    store.close()


def test_closing_in_a_running_loop_leaves_no_connection(redis8):
    async def use(close):
        store = unguarded(redis8.url(PATIENT))
        await store.awrite({"a/1": b"x"})
        if close == "sync":
            store.close()
        else:
            await store.aclose()
        for _ in range(1000):
            if _count_clients(redis8) == 1:
                return
            await asyncio.sleep(0.005)
        pytest.fail("a connection stayed open")

    for close in ("sync", "async"):
        asyncio.run(use(close))


def test_closing_between_two_runs_of_a_loop(redis8):
    with asyncio.Runner() as runner:
        store = unguarded(redis8.url(PATIENT))
        runner.run(store.awrite({"a/1": b"x"}))
        store.close()
        another = unguarded(redis8.url(PATIENT))
        assert runner.run(another.aread(["a/1"])) == [b"x"]
        del store, another
        gc.collect()


def _count_clients(server):
    with server.client() as client:
        return client.info("clients")["connected_clients"]


def _count_reads(server):
    with server.client() as client:
        return client.info("commandstats").get("cmdstat_mget", {}).get("calls", 0)


def test_a_thousand_tasks_share_the_connections(redis8):
    async def use():
        store = unguarded(redis8.url())  # however short the deadline is
        await store.awrite({f"a/{number}": b"%d" % number for number in range(1000)})
        # A server that has to wait for a processor is late, however the connections are shared.
        for _ in range(100):
            with contextlib.suppress(StoreError):
                found = await asyncio.gather(*map(store.aread, [[f"a/{n}"] for n in range(1000)]))
                break
        else:
            pytest.fail("never were all answered in time")
        assert found == [[b"%d" % number] for number in range(1000)]
        assert _count_clients(redis8) < 40
        await store.aclose()

    asyncio.run(use())


def test_a_loop_that_is_busy_itself_is_not_the_servers_fault(redis8):
    async def use():
        store = unguarded(redis8.url())
        await store.awrite({"a/1": b"x"})
        with contextlib.suppress(StoreError):
            await store.aread(["a/1"])
        for _ in range(5):
            before = _count_reads(redis8)
            reading = asyncio.ensure_future(store.aread(["a/1"]))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            # The loop can do nothing until long after the server has answered.
            until(lambda before=before: _count_reads(redis8) > before)
            time.sleep(0.1)
            assert await reading == [b"x"]
        await store.aclose()

    asyncio.run(use())


def test_a_cancelled_read_mixes_nothing_up(server):
    async def use():
        store = unguarded(server.url(PATIENT))
        entries = {f"a/{number}": b"%d" % number * 100 for number in range(300)}
        await store.awrite(entries)
        for turn in range(60):
            reading = asyncio.ensure_future(store.aread(list(entries)))
            for _ in range(turn % 12):
                await asyncio.sleep(0)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            key = f"a/{turn}"
            assert await store.aread([key]) == [entries[key]]
        await store.aclose()

    asyncio.run(use())


@pytest.mark.parametrize(
    "scenario", [forks.use_in_both, forks.outlive_the_parent, forks.fork_amid_threads]
)
@pytest.mark.parametrize("name", ["redis8", "cluster"])
def test_survives_a_fork(give_redis, name, scenario):
    alone(scenario, give_redis(name).url(PATIENT))


def test_fifty_threads_share_it(server):
    with unguarded(server.url(PATIENT)) as store, ThreadPoolExecutor(50) as pool:
        start = threading.Barrier(50)

        def work(thread):
            start.wait()
            for turn in range(5):
                store.write({f"a/{thread}": bytes([turn]), "a/shared": bytes([thread])})
                assert store.read([f"a/{thread}"]) == [bytes([turn])]

        list(pool.map(work, range(50)))
        assert len(list(store.keys())) == 51


def test_says_that_it_is_closed(redis8):
    store = unguarded(redis8.url())
    store.write({"a/1": b"x"})
    store.close()
    for use in (
        lambda: store.read(["a/1"]),
        lambda: store.write({"a/1": b"x"}),
        lambda: store.delete(["a/1"]),
        lambda: list(store.keys()),
        lambda: asyncio.run(store.aread(["a/1"])),
    ):
        with pytest.raises(StoreError, match="closed"):
            use()
