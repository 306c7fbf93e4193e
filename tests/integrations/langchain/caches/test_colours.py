"""Async calls do not block, and find what the other colour stored."""

import asyncio

from askonce.integrations.langchain import StoreCache
from askonce.stores.memory import MemoryStore
from tests.integrations.langchain.chat_models import CountingChat, CountingLLM


async def test_async_calls_do_not_block_the_event_loop():
    class SlowStore(MemoryStore):
        """Has async verbs that wait until the loop has done something else."""

        async def aread(self, keys):
            await asyncio.wait_for(ticked.wait(), 5)
            return super().read(keys)

        async def awrite(self, entries, *, expires=0.0):
            await asyncio.wait_for(ticked.wait(), 5)
            super().write(entries, expires=expires)

        def read(self, keys):
            raise AssertionError("a blocking read in async code")

        write = read

    class AsyncChat(CountingChat):
        async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
            return self.answer(1)

    ticked = asyncio.Event()
    model = AsyncChat(cache=StoreCache(SlowStore()))

    async def tick():
        await asyncio.sleep(0)
        ticked.set()

    answer, _ = await asyncio.gather(model.ainvoke("hi"), tick())
    assert answer.content == "answer 1"
    assert (await model.ainvoke("hi")).additional_kwargs["cache_hit"]


async def test_what_one_colour_stored_the_other_finds(cache):
    model = CountingChat(cache=cache)
    model.invoke("sync")
    await model.ainvoke("async")
    assert (await model.ainvoke("sync")).content == "answer 1"
    assert model.invoke("async").content == "answer 2"
    await cache.aclear()
    assert await cache.alookup("prompt", "model") is None
    model.invoke("sync")
    assert len(model.calls) == 3


def test_a_completion_model_is_cached_too(cache):
    model = CountingLLM(cache=cache)
    assert [model.invoke("a"), model.invoke("a"), model.invoke("b")] == ["a: 1", "a: 1", "b: 2"]
    result = model.generate(["a", "c", "b"])
    assert [one[0].text for one in result.generations] == ["a: 1", "c: 3", "b: 2"]
