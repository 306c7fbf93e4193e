"""Completion models, wrapped: batches ask for what is missing, streams are kept."""

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import FakeListLLM, FakeStreamingListLLM

from askonce.integrations.langchain import cached
from askonce.stores.memory import MemoryStore
from tests.integrations.langchain.cached_models import StreamingLLM
from tests.integrations.langchain.chat_models import CountingLLM


@pytest.fixture
def model():
    return cached(StreamingLLM(), store=MemoryStore())


def asked(model):
    return [asked for _, (asked, *_) in model.calls]


def test_a_batch_asks_for_what_is_missing_and_for_each_once(model):
    assert model.batch(["a", "b", "a"]) == ["a: 1", "b: 1", "a: 1"]
    assert model.batch(["c", "a", "c", "b"]) == ["c: 2", "a: 1", "c: 2", "b: 1"]
    assert asked(model) == [["a", "b"], ["c"]]


async def test_async_batches_share_entries(model):
    assert await model.abatch(["a", "b"]) == ["a: 1", "b: 1"]
    assert model.invoke("a") == await model.ainvoke("a") == "a: 1"
    assert await model.abatch(["b", "c"]) == ["b: 1", "c: 2"]


def test_duplicates_are_objects_of_their_own(model):
    first, second = model.generate(["a", "a"]).generations
    first[0].text = "spoiled"
    assert second[0].text == "a: 1"


def test_tokens_are_told_for_what_was_asked_for(model):
    assert model.generate(["a", "b"]).llm_output == {"token_usage": {"total_tokens": 20}}
    assert model.generate(["b", "c"]).llm_output == {"token_usage": {"total_tokens": 10}}
    hit = model.generate(["b"])
    assert hit.llm_output == {}
    assert hit.generations[0][0].generation_info == {"cache_hit": True}


async def test_streams_and_whole_answers_are_one_entry(model):
    assert list(model.stream("a")) == list("a: 1")
    assert model.invoke("a") == "a: 1"
    assert [part async for part in model.astream("a")] == list("a: 1")
    assert model.invoke("b") == "b: 2"
    assert list(model.stream("b")) == ["b: 2"]
    assert len(model.calls) == 2


def test_callbacks_fire_for_hits_of_a_batch(model):
    class Handler(BaseCallbackHandler):
        seen = []

        def on_llm_start(self, serialized, prompts, **kwargs):
            self.seen.extend(prompts)

        def on_llm_end(self, response, **kwargs):
            self.seen.append(response.generations[0][0].text)

    model.batch(["a", "b"])
    model.batch(["a", "c"], {"callbacks": [Handler()]})
    assert Handler.seen == ["a", "c", "a: 1", "c: 2"]


def test_an_error_of_one_call_leaves_nobody_waiting():
    model = cached(CountingLLM(error="no"), store=MemoryStore())
    for _ in range(2):
        with pytest.raises(PermissionError):
            model.batch(["a", "b"])
    assert not model._keeper().store.flights._flights
    model.error = ""
    assert model.batch(["a", "b"]) == ["a: 3", "b: 4"]


def test_what_cannot_be_identified_is_asked_for_every_time(model):
    with pytest.warns(UserWarning, match="its argument 'thing'"):
        assert model.batch(["a", "b"], thing=object()) == ["a: 1", "b: 1"]
    assert model.invoke("a", thing=object()) == "a: 2"


async def test_what_cannot_be_identified_is_asked_for_by_tasks_too(model):
    with pytest.warns(UserWarning, match="its argument 'thing'"):
        assert await model.abatch(["a"], thing=object()) == ["a: 1"]


def test_keep_is_shown_the_text():
    seen = []
    model = cached(StreamingLLM(), store=MemoryStore(), keep=lambda text: seen.append(text) or "1" in text)
    model.invoke("a")
    model.invoke("b")
    model.invoke("b")
    assert seen == ["a: 1", "b: 2", "b: 3"]


def test_langchains_own_fakes_hit():
    fake = cached(FakeListLLM(responses=["x", "y"]), store=MemoryStore())
    assert [fake.invoke("a") for _ in range(3)] == ["x"] * 3
    streaming = cached(FakeStreamingListLLM(responses=["xy", "z"]), store=MemoryStore())
    assert [list(streaming.stream("a")) for _ in range(2)] == [["x", "y"]] * 2


def test_a_text_and_messages_of_the_same_words_are_two_questions():
    from tests.integrations.langchain.cached_models import StreamingChat

    store = MemoryStore()
    cached(StreamingChat(), store=store).invoke("hi")
    assert cached(StreamingLLM(), store=store).invoke("hi") == "hi: 1"
