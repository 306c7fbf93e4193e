"""What is asked of the model, and that nothing is asked twice."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.stores import InMemoryByteStore as LangChainInMemoryByteStore

from askonce.integrations.langchain import InMemoryByteStore
from askonce.stores.memory import MemoryStore
from tests.integrations.langchain.embedding_models import AnsweringModel, CountingModel, cached


def test_what_was_asked_is_not_asked_again(store, model):
    first = cached(model, store).embed_documents(["a", "b"])
    again = cached(model, store).embed_documents(["b", "c", "a"])
    assert model.asked == [["a", "b"], ["c"]]
    assert first == [model.vector("a"), model.vector("b")]
    assert again == [model.vector("b"), model.vector("c"), model.vector("a")]


async def test_what_one_colour_asked_the_other_reads(store, model):
    first = await cached(model, store).aembed_documents(["a", "b"])
    again = cached(model, store).embed_documents(["a", "b", "c"])
    last = await cached(model, store).aembed_documents(["a", "b", "c"])
    assert model.asked == [["a", "b"], ["c"]]
    assert model.colours == ["async", "sync"]
    assert first == again[:2]
    assert last == again == [model.vector(text) for text in "abc"]


def test_results_are_lists_of_python_floats(model):
    cache = cached(model, "memory://", query_embedding_cache=True)
    for _ in range(2):
        (vector,) = cache.embed_documents(["a"])
        for numbers in (vector, cache.embed_query("q")):
            assert type(numbers) is list
            assert {type(number) for number in numbers} == {float}


async def test_results_are_lists_of_python_floats_in_async_too(model):
    cache = cached(model, "memory://", query_embedding_cache=True)
    for _ in range(2):
        (vector,) = await cache.aembed_documents(["a"])
        for numbers in (vector, await cache.aembed_query("q")):
            assert type(numbers) is list
            assert {type(number) for number in numbers} == {float}


def test_nothing_asks_nothing(store, model):
    assert cached(model, store).embed_documents([]) == []
    assert asyncio.run(cached(model, store).aembed_documents([])) == []
    assert not model.asked


def fails_at(bad):
    def answer(texts):
        if bad in texts:
            raise ConnectionError("the provider is gone")
        return [[float(text)] for text in texts]

    return answer


@pytest.mark.parametrize(("batch_size", "kept"), [(None, 900), (30, 930)])
def test_a_failure_keeps_all_finished_batches(store, batch_size, kept):
    model = AnsweringModel(fails_at("950"))
    cache = cached(model, store, batch_size=batch_size)
    texts = [str(number) for number in range(1000)]
    with pytest.raises(ConnectionError, match="the provider is gone"):
        cache.embed_documents(texts)
    model.answer = fails_at("nothing")
    model.asked.clear()
    assert cache.embed_documents(texts) == [[float(text)] for text in texts]
    assert model.texts == texts[kept:]
    assert cache.batch_size == batch_size


def test_duplicates_are_asked_once(store, model):
    vectors = cached(model, store).embed_documents(["x", "y", "x", "x", "y"])
    assert model.asked == [["x", "y"]]
    assert vectors == [model.vector(text) for text in "xyxxy"]


def test_duplicates_are_asked_once_across_batches(store, model):
    cached(model, store, batch_size=2).embed_documents(["x", "y", "z", "x", "w", "z"])
    assert model.asked == [["x", "y"], ["z", "w"]]


@pytest.mark.parametrize("make", [InMemoryByteStore, LangChainInMemoryByteStore, MemoryStore])
def test_threads_that_ask_for_the_same_share_one_call(make):
    gate = threading.Barrier(16)
    model, store = CountingModel(), make()

    def ask(_):
        gate.wait()
        return cached(model, store).embed_documents(["a", "b"])

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(16)))
    assert answers == [[model.vector("a"), model.vector("b")]] * 16
    assert sorted(model.texts) == ["a", "b"]


async def test_tasks_that_ask_for_the_same_share_one_call(store, model):
    cache = cached(model, store, query_embedding_cache=True)
    answers = await asyncio.gather(*(cache.aembed_documents(["a", "b"]) for _ in range(16)))
    queries = await asyncio.gather(*(cache.aembed_query("q") for _ in range(16)))
    assert answers == [[model.vector("a"), model.vector("b")]] * 16
    assert queries == [model.vector("q", "query")] * 16
    assert (sorted(model.texts), model.queries) == (["a", "b"], ["q"])


@given(
    calls=st.lists(
        st.tuples(
            st.sampled_from(["one", "two"]),
            st.booleans(),
            st.lists(st.sampled_from(["", "a", "b", "a-query", "\ud800"]), max_size=6),
        ),
        max_size=8,
    )
)
@settings(deadline=None, max_examples=60)
def test_any_sequence_of_calls_gives_what_asking_one_by_one_gives(calls):
    store = MemoryStore()
    models = {"one": CountingModel("one", 4), "two": CountingModel("two", 6)}
    wanted = {name: set() for name in models}
    for name, is_query, texts in calls:
        model = models[name]
        cache = cached(model, store, query_embedding_cache=True, batch_size=2)
        if is_query:
            assert [cache.embed_query(t) for t in texts] == [model.vector(t, "query") for t in texts]
        else:
            assert cache.embed_documents(texts) == [model.vector(text) for text in texts]
            wanted[name].update(texts)
    for name, model in models.items():
        assert sorted(model.texts) == sorted(wanted[name])
