"""Tasks that are cancelled while they ask, wait, or keep an answer."""

import asyncio
import math

import pytest

from askonce.stores.memory import MemoryStore
from tests.http.askers import body
from tests.http.flights.gates import Gate, nothing_is_left
from tests.http.server import Hang, Script, chunked, events


@pytest.mark.parametrize("at", ["sending", "reading"])
def test_a_cancelled_task_lets_go(maker, provider, url, store, at):
    gate = Gate()
    if at == "sending":
        provider.answer = Script([gate])
    else:
        provider.answer = Script([lambda asked: chunked([events("Hel")[0], Hang])])
    asker = maker("httpx2-async", store)

    async def cancelled():
        started = asyncio.Event()

        async def ask():
            async with asker.client.stream("POST", url, json=body(stream=True)) as response:
                async for _ in response.aiter_raw():
                    started.set()

        asking = asyncio.ensure_future(ask())
        if at == "sending":
            await asyncio.to_thread(gate.reached.wait, 30)
        else:
            await started.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asker.run(cancelled())
    gate.opened.set()
    nothing_is_left(store)
    assert maker("httpx2", store).ask(url, body()).status == 200
    assert provider.count == 2


def test_an_answer_that_is_still_being_stored_is_waited_for(maker, provider, url):
    """Also by the task that read it and was cut short while it was stored."""

    class Slow(MemoryStore):
        async def awrite(self, entries, *, expires=math.inf):
            storing.set()
            await opened.wait()
            self.write(entries, expires=expires)

    asker = maker("httpx2-async", Slow())
    storing, opened = asyncio.Event(), asyncio.Event()

    async def cut_short(limit):
        await storing.wait()
        limit.reschedule(0)

    async def store_when_awaited():
        (flight,) = asker.cache.store.flights._flights.values()
        while not flight.is_awaited and provider.count == 1:
            await asyncio.sleep(0.001)
        opened.set()

    async def run():
        async with asker.client.stream("POST", url, json=body(stream=True)) as response:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(None) as limit, asyncio.TaskGroup() as beside:
                    beside.create_task(cut_short(limit))
                    async for _ in response.aiter_raw():
                        pass
        async with asyncio.TaskGroup() as beside:
            beside.create_task(store_when_awaited())
            return await asker.client.post(url, json=body())

    assert asker.run(run()).headers["cache-status"] == "askonce; fwd=miss; collapsed"
    assert provider.count == 1


def test_a_cancelled_follower_harms_nobody(maker, provider, url, store):
    provider.answer = gate = Gate()
    asker = maker("httpx2-async", store)

    async def ask():
        return await asker.client.post(url, json=body())

    async def run():
        leading = asyncio.ensure_future(ask())
        await asyncio.to_thread(gate.reached.wait, 30)
        followers = [asyncio.ensure_future(ask()) for _ in range(3)]
        for _ in range(100):
            await asyncio.sleep(0)
        followers[0].cancel()
        gate.opened.set()
        with pytest.raises(asyncio.CancelledError):
            await followers[0]
        return [(await task).status_code for task in [leading, *followers[1:]]]

    assert asker.run(run()) == [200] * 3
    assert provider.count == 1
