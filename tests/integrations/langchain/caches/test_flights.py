"""Many who ask the same at the same moment cost one call, and none hangs if that call fails."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from askonce.integrations.langchain import StoreCache, pending
from askonce.stores.memory import MemoryStore
from tests.integrations.langchain.chat_models import CountingChat, CountingLLM

FOR_EVER = 1e6

pytestmark = pytest.mark.timeout(60)


class Gate(StoreCache):
    """Let a model go on once `count` callers have looked up: asked here, or asking already."""

    def __init__(self, count, store="memory://", **options):
        super().__init__(store, wait=FOR_EVER, **options)
        self._count = count
        self._come = 0
        self.open = threading.Event()

    def _pass(self):
        self._come += 1
        if self._come >= self._count:
            self.open.set()

    def lookup(self, prompt, llm_string):
        self._pass()
        return super().lookup(prompt, llm_string)

    async def alookup(self, prompt, llm_string):
        self._pass()
        return await super().alookup(prompt, llm_string)


class GatedChat(CountingChat):
    """Answer or fail when the gate of its cache opens."""

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        assert self.cache.open.wait(30)
        return super()._generate(messages, stop, run_manager, **kwargs)

    async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
        while not self.cache.open.is_set():
            await asyncio.sleep(0)
        return super()._generate(messages, stop, run_manager, **kwargs)


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    assert len(pending._registry._leaders) <= pending._SWEEP_AT_LEAST


def outcomes(model, count):
    def ask(_):
        try:
            return model.invoke("hi").content
        except PermissionError as error:
            return str(error)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(ask, range(count)))


@pytest.mark.parametrize("url", ["memory://", "sqlite:///{}/a.db", "lmdb:///{}/a", "file:///{}/a"])
def test_sixteen_threads_asking_one_prompt_make_one_call(tmp_path, url):
    model = GatedChat(cache=Gate(16, url.format(tmp_path)))
    assert outcomes(model, 16) == ["answer 1"] * 16
    assert len(model.calls) == 1


def test_a_batch_of_one_prompt_makes_one_call():
    model = GatedChat(cache=Gate(16))
    answers = model.batch(["hi"] * 16, config={"max_concurrency": 16})
    assert {answer.content for answer in answers} == {"answer 1"}
    assert len({answer.id for answer in answers}) == 16
    assert len(model.calls) == 1


@pytest.mark.parametrize("url", ["memory://", "sqlite:///{}/a.db"])
async def test_eight_abatch_tasks_asking_one_prompt_make_one_call(tmp_path, url):
    model = GatedChat(cache=Gate(8, url.format(tmp_path)))
    answers = await model.abatch(["hi"] * 8)
    assert [answer.content for answer in answers] == ["answer 1"] * 8
    assert len({answer.id for answer in answers}) == 8
    assert len(model.calls) == 1


async def test_threads_and_tasks_wait_for_each_other():
    model = GatedChat(cache=Gate(8))
    answers = await asyncio.gather(
        *(asyncio.to_thread(model.invoke, "hi") for _ in range(4)),
        *(model.ainvoke("hi") for _ in range(4)),
    )
    assert {answer.content for answer in answers} == {"answer 1"}
    assert len(model.calls) == 1


def test_different_prompts_do_not_wait_for_each_other():
    model = GatedChat(cache=Gate(8))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(model.invoke, map(str, range(8))))
    assert len(model.calls) == 8


def test_two_caches_on_one_store_share_a_flight():
    store = MemoryStore()
    gate = Gate(1, store)
    caches = [gate, StoreCache(store, wait=FOR_EVER)]
    models = [GatedChat(cache=gate), CountingChat(cache=caches[1])]
    gate._count = 100
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(models[0].invoke, "hi")
        while not pending._registry._leaders:
            pass
        second = pool.submit(models[1].invoke, "hi")
        gate.open.set()
        assert first.result().content == second.result().content == "answer 1"
    assert len(models[1].calls) == 0


def test_a_model_that_fails_does_not_keep_sixteen_threads_waiting():
    model = GatedChat(cache=Gate(16), error="401")
    assert outcomes(model, 16) == ["401"] * 16
    assert len(model.calls) == 16


async def test_a_model_that_fails_does_not_keep_tasks_waiting():
    model = GatedChat(cache=Gate(8), error="401")
    answers = await model.abatch(["hi"] * 8, return_exceptions=True)
    assert [str(answer) for answer in answers] == ["401"] * 8


class FailingFirst(GatedChat):
    def answer(self, number):
        if number == 1:
            raise PermissionError("busy")
        return super().answer(number)


def test_when_the_leader_fails_one_follower_takes_over():
    model = FailingFirst(cache=Gate(16))
    answers = sorted(outcomes(model, 16))
    assert answers == ["answer 2"] * 15 + ["busy"]
    assert len(model.calls) == 2


async def test_when_the_leading_task_fails_one_follower_takes_over():
    model = FailingFirst(cache=Gate(8))
    answers = await model.abatch(["hi"] * 8, return_exceptions=True)
    assert sorted(str(getattr(answer, "content", answer)) for answer in answers) == [
        *["answer 2"] * 7,
        "busy",
    ]
    assert len(model.calls) == 2


async def test_when_the_leading_task_is_cancelled_a_follower_takes_over():
    model = GatedChat(cache=Gate(1000))
    leader = asyncio.create_task(model.ainvoke("hi"))
    while not pending._registry._leaders:
        await asyncio.sleep(0)
    follower = asyncio.create_task(model.ainvoke("hi"))
    await asyncio.sleep(0)
    leader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leader
    model.cache.open.set()
    assert (await follower).content == "answer 1"


@pytest.mark.parametrize("count", [1, 3])
def test_a_thread_that_failed_and_asks_on_is_not_waited_for(count):
    """Its next call is made by a frame that may have the first one's address."""
    cache = StoreCache("memory://", wait=FOR_EVER)
    failing = CountingChat(cache=cache, error="401")
    good = CountingChat(cache=cache)
    asking, go_on = threading.Event(), threading.Event()

    class Long(CountingChat):
        def _generate(self, messages, stop=None, run_manager=None, **kwargs):
            asking.set()
            assert go_on.wait(30)
            return super()._generate(messages, stop, run_manager, **kwargs)

    def lead():
        for number in range(count):
            with pytest.raises(PermissionError):
                failing.invoke(f"first {number}")
        return Long(cache=cache).invoke("second").content

    with ThreadPoolExecutor(1) as pool:
        leading = pool.submit(lead)
        assert asking.wait(30)
        answers = [good.invoke(f"first {number}").content for number in range(count)]
        go_on.set()
        assert leading.result() == "answer 1"
    assert answers == [f"answer {number + 1}" for number in range(count)]


def test_whoever_is_just_curious_is_not_waited_for():
    cache = StoreCache("memory://", wait=FOR_EVER)
    model = CountingChat(cache=cache)
    prompts = []

    class Spy(StoreCache):
        def lookup(self, prompt, llm_string):
            prompts.append((prompt, llm_string))
            return super().lookup(prompt, llm_string)

    CountingChat(cache=Spy("memory://")).invoke("hi")
    assert cache.lookup(*prompts[0]) is None
    assert cache.lookup(*prompts[0]) is None
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(model.invoke, "hi").result().content == "answer 1"


def test_a_model_that_asks_another_within_does_not_wait_for_itself():
    cache = StoreCache("memory://", wait=FOR_EVER)

    class Outer(CountingChat):
        inner: CountingChat

        def _generate(self, messages, stop=None, run_manager=None, **kwargs):
            self.calls.append(messages)
            content = self.inner.invoke(messages).content
            return ChatResult(generations=[ChatGeneration(message=AIMessage(content))])

    inner = CountingChat(cache=cache, model_name="inner")
    outer = Outer(cache=cache, model_name="outer", inner=inner)
    same = Outer(cache=cache, model_name="inner", inner=inner)
    for model in (outer, same):
        assert outcomes(model, 4) == ["answer 1"] * 4
    assert len(inner.calls) == 1


def test_answers_that_cannot_be_stored_are_asked_for_side_by_side():
    class Odd(GatedChat):
        def answer(self, number):
            message = AIMessage(f"answer {number}", response_metadata={"raw": object()})
            return ChatResult(generations=[ChatGeneration(message=message)])

    model = Odd(cache=Gate(8))
    assert len(set(outcomes(model, 8))) == 8


def test_completions_of_many_prompts_at_once():
    model = CountingLLM(cache=StoreCache("memory://", wait=FOR_EVER))

    def ask(prompts):
        return [one[0].text for one in model.generate(prompts).generations]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, [["a", "b"], ["b", "a"]] * 8))
    assert len({tuple(sorted(answer)) for answer in answers if answer}) <= 4
    assert 2 <= len(model.calls) <= 32


async def test_a_completion_that_fails_in_a_task_that_lives_on_is_not_waited_for():
    class Failing(CountingLLM):
        async def _acall(self, prompt, stop=None, run_manager=None, **kwargs):
            while not started.is_set():
                await asyncio.sleep(0)
            self.calls.append(prompt)
            raise PermissionError("401")

    started, end = asyncio.Event(), asyncio.Event()
    model = Failing(cache=StoreCache("memory://", wait=FOR_EVER))

    async def ask_and_live_on():
        with pytest.raises(PermissionError):
            await model.ainvoke("a")
        await end.wait()

    first = asyncio.create_task(ask_and_live_on())
    while not pending._registry._leaders:
        await asyncio.sleep(0)
    second = asyncio.create_task(model.ainvoke("a"))
    await asyncio.sleep(0)
    started.set()
    with pytest.raises(PermissionError):
        await second
    assert len(model.calls) == 2
    end.set()
    await first


def test_flights_of_failed_calls_do_not_pile_up():
    cache = StoreCache("memory://")
    model = CountingChat(cache=cache, error="401")

    def fail(number):
        with pytest.raises(PermissionError):
            model.invoke(str(number))

    for number in range(300):
        thread = threading.Thread(target=fail, args=(number,))
        thread.start()
        thread.join()
    assert len(pending._registry._leaders) <= 2 * pending._SWEEP_AT_LEAST
    assert len(cache.store.flights._flights) <= 2 * pending._SWEEP_AT_LEAST


def test_the_variables_of_the_asking_frame_do_not_live_on():
    import gc
    import weakref

    class Thing:
        pass

    cache = StoreCache("memory://")
    model = CountingChat(cache=cache, error="401")

    def ask():
        thing = Thing()
        reference = weakref.ref(thing)
        try:
            model.invoke("hi")
        except PermissionError:
            pass
        return reference

    gc.disable()
    try:
        reference = ask()
        assert reference() is None
    finally:
        gc.enable()
