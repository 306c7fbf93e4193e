"""Each defect of LangChain's caches that one can repair from inside a cache, by its name."""

import asyncio
import json
import operator
import sqlite3
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, TypedDict

import pytest
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.load import dumps, load
from langchain_core.messages import (
    AIMessage,
    HumanMessage,
    ToolMessage,
    messages_from_dict,
    messages_to_dict,
)
from langchain_core.outputs import ChatGeneration, Generation
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from pydantic import BaseModel

from askonce.core.store import Store
from askonce.errors import InputError, StoreError
from askonce.integrations.langchain import InMemoryCache, SQLiteCache, StoreCache
from askonce.stores.memory import MemoryStore
from tests.integrations.langchain.chat_models import CountingChat, CountingLLM, SerializableChat


@pytest.fixture(params=["memory", "sqlite", "file", "lmdb"])
def cache(request, tmp_path):
    cache = {
        "memory": lambda: InMemoryCache(),
        "sqlite": lambda: SQLiteCache(tmp_path / "answers.db"),
        "file": lambda: StoreCache(f"file:///{tmp_path}/files"),
        "lmdb": lambda: StoreCache(f"lmdb:///{tmp_path}/lmdb"),
    }[request.param]()
    yield cache
    cache.close()


def replay(model, turns=5):
    before = len(model.calls)
    history = []
    for turn in range(turns):
        history.append(HumanMessage(f"question {turn}"))
        history.append(model.invoke(history))
    return len(model.calls) - before


@pytest.mark.parametrize("usage", [True, False])
@pytest.mark.parametrize("kind", [CountingChat, SerializableChat])
def test_replaying_a_five_turn_chat_costs_five_calls_once(cache, kind, usage):
    model = kind(cache=cache, usage=usage)
    assert [replay(model) for _ in range(3)] == [5, 0, 0]


async def test_replaying_a_chat_hits_from_async_code_too(cache):
    model = CountingChat(cache=cache)
    replay(model)
    history = []
    for turn in range(5):
        history.append(HumanMessage(f"question {turn}"))
        history.append(await model.ainvoke(history))
    assert len(model.calls) == 5


def test_random_message_ids_do_not_miss(cache):
    model = CountingChat(cache=cache)
    for identifier in ("a", "b", None):
        model.invoke([HumanMessage("hi", id=identifier), AIMessage("ho", id=identifier)])
    assert len(model.calls) == 1


def test_the_order_of_keys_in_tool_calls_does_not_miss(cache):
    model = CountingChat(cache=cache)
    for args in ({"a": 1, "b": 2}, {"b": 2, "a": 1}):
        calls = [{"name": "add", "args": args, "id": "call_1", "type": "tool_call"}]
        model.invoke([HumanMessage("hi"), AIMessage("", tool_calls=calls), ToolMessage("3", tool_call_id="call_1")])
    assert len(model.calls) == 1
    calls = [{"name": "add", "args": {"a": 2, "b": 1}, "id": "call_1", "type": "tool_call"}]
    model.invoke([HumanMessage("hi"), AIMessage("", tool_calls=calls), ToolMessage("3", tool_call_id="call_1")])
    assert len(model.calls) == 2


def test_the_order_of_keys_in_call_arguments_does_not_miss(cache):
    model = SerializableChat(cache=cache)
    model.invoke("hi", tool_choice={"type": "function", "name": "f"})
    model.invoke("hi", tool_choice={"name": "f", "type": "function"})
    assert len(model.calls) == 1


def test_transport_settings_do_not_miss(cache):
    models = [
        SerializableChat(cache=cache),
        SerializableChat(cache=cache, max_retries=9, request_timeout=3.0, name="mine"),
        SerializableChat(cache=cache, streaming=True, api_key="another", tags=["x"], verbose=True),
    ]
    assert {model.invoke("hi").content for model in models} == {"answer 1"}
    assert [len(model.calls) for model in models] == [1, 0, 0]
    hotter = SerializableChat(cache=cache, temperature=1.0)
    hotter.invoke("hi")
    assert len(hotter.calls) == 1


def test_a_hit_has_its_own_message_id_so_langgraph_appends_it(cache):
    model = CountingChat(cache=cache)

    class State(TypedDict):
        messages: Annotated[list, add_messages]
        seen: Annotated[list, operator.add]

    def ask(state):
        answer = model.invoke("the same question")
        return {"messages": [answer], "seen": [answer.id]}

    graph = StateGraph(State)
    graph.add_node("first", ask)
    graph.add_node("second", ask)
    graph.add_edge(START, "first")
    graph.add_edge("first", "second")
    graph.add_edge("second", END)
    app = graph.compile()
    state = app.invoke({"messages": [HumanMessage("go")], "seen": []})
    assert len(model.calls) == 1
    assert len(state["messages"]) == 3
    streamed = [chunk for chunk, _ in app.stream({"messages": [], "seen": []}, stream_mode="messages")]
    assert [message.content for message in streamed] == ["answer 1", "answer 1"]
    assert len(set(state["seen"])) == 2


def test_tokens_are_not_counted_twice(cache):
    model = CountingChat(cache=cache)
    counter = UsageMetadataCallbackHandler()
    answers = [model.invoke("hi", config={"callbacks": [counter]}) for _ in range(5)]
    assert counter.usage_metadata["counting"]["total_tokens"] == 15
    assert answers[0].usage_metadata["total_tokens"] == 15
    for hit in answers[1:]:
        assert hit.usage_metadata == {
            "input_tokens": 0,
            "output_tokens": 0,
            "total_tokens": 0,
            "total_cost": 0,
        }


@pytest.mark.parametrize("usage", [True, False])
def test_a_hit_is_a_valid_message_also_of_a_model_without_usage(cache, usage):
    model = CountingChat(cache=cache, usage=usage)
    model.invoke("hi")
    hit = model.invoke("hi")
    assert AIMessage.model_validate(hit.model_dump()).content == "answer 1"
    (again,) = messages_from_dict(messages_to_dict([hit]))
    assert again.content == "answer 1"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LangChain's own: load is beta
        assert load(json.loads(dumps(hit)), allowed_objects=[AIMessage]).content == "answer 1"


def test_a_hit_is_marked_and_else_equal(cache):
    model = CountingChat(cache=cache)
    first = model.invoke("hi")
    hit = model.invoke("hi")
    assert "cache_hit" not in first.additional_kwargs
    assert hit.additional_kwargs == {"cache_hit": True}
    assert hit.response_metadata == first.response_metadata
    assert hit.response_metadata["system_fingerprint"] == "fp"
    assert hit.content == first.content
    result = model.generate([[HumanMessage("hi")]])
    assert result.generations[0][0].generation_info == {"finish_reason": "stop", "cache_hit": True}


def test_a_hit_can_be_told_by_events():
    events = []
    model = CountingChat(cache=StoreCache("memory://", observe=events.append))
    model.invoke("hi")
    model.invoke("hi")
    assert [event.kind for event in events] == ["miss", "stored", "hit"]
    assert {event.model for event in events} == {"counting"}


def test_the_mark_of_a_hit_is_not_stored_again(cache):
    model = CountingChat(cache=cache)
    model.invoke("hi")
    (generations,) = model.generate([[HumanMessage("hi")]]).generations
    cache.update("another", "model", generations)
    other = InMemoryCache()
    other.update("another", "model", generations)
    (blob,) = other.store.read(list(other.store.keys()))
    assert b"cache_hit" not in blob


def test_a_result_can_be_edited_without_changing_the_cache(cache):
    model = CountingChat(cache=cache)
    first = model.invoke("hi")
    first.content = "edited"
    first.response_metadata["token_usage"]["total_tokens"] = 99
    second = model.invoke("hi")
    assert second.content == "answer 1"
    second.response_metadata["token_usage"]["total_tokens"] = 99
    second.content = "edited"
    third = model.invoke("hi")
    assert third.content == "answer 1"
    assert third.response_metadata["token_usage"] == {"total_tokens": 15}
    assert len({first.id, second.id, third.id}) == 3


def test_structured_output_comes_back_from_the_cache(cache):
    class Joke(BaseModel):
        setup: str
        punchline: str

    joke = Joke(setup="a", punchline="b")
    message = AIMessage('{"setup":"a","punchline":"b"}', additional_kwargs={"parsed": joke})
    cache.update("prompt", "model", [ChatGeneration(message=message)])
    (hit,) = cache.lookup("prompt", "model")
    assert hit.message.additional_kwargs["parsed"] == {"setup": "a", "punchline": "b"}
    assert message.additional_kwargs["parsed"] is joke


class OwnMessage(AIMessage):
    pass


class Opaque(BaseModel):
    field: int = 1


@pytest.mark.parametrize(
    "message",
    [
        AIMessage("x", response_metadata={"raw": Opaque()}),
        AIMessage("x", response_metadata={"raw": b"bytes"}),
        AIMessage("x", response_metadata={"raw": object()}),
        AIMessage("x", response_metadata={"raw": (1, 2)}),
        AIMessage("x", response_metadata={1: 2}),
        AIMessage("x", additional_kwargs={"logprob": float("nan")}),
        AIMessage([{"type": "image", "data": b"bytes"}]),
        OwnMessage("x"),
    ],
    ids=lambda message: str(message)[:60],
)
def test_what_cannot_be_read_back_is_never_stored(message):
    events = []
    cache = InMemoryCache(observe=events.append)
    cache.update("prompt", "model", [ChatGeneration(message=message)])
    assert cache.lookup("prompt", "model") is None
    assert list(cache.store.keys()) == []
    assert [event.kind for event in events] == ["miss", "refused"]
    assert events[1].reason
    assert events[1].code == "not_plain"


def entries(path, change):
    with sqlite3.connect(path) as connection:
        for identifier, value in connection.execute("SELECT id, value FROM askonce_entries"):
            connection.execute(
                "UPDATE askonce_entries SET value = ? WHERE id = ?", (change(value), identifier)
            )
    connection.close()


@pytest.mark.parametrize(
    "damage",
    [
        lambda value: b"",
        lambda value: value[:50],
        lambda value: value[:-8],
        lambda value: value.replace(b"answer", b"Answer"),
        lambda value: b'{"lc": 1, "type": "constructor", "id": [] }',
    ],
)
def test_a_row_that_cannot_be_decoded_is_a_miss(tmp_path, damage):
    path = tmp_path / "answers.db"
    model = CountingChat(cache=SQLiteCache(path))
    model.invoke("hi")
    entries(path, damage)
    assert model.invoke("hi").content == "answer 2"
    assert model.invoke("hi").content == "answer 2"
    assert len(model.calls) == 2


def test_no_warning_is_printed_on_a_hit(tmp_path):
    program = """if True:
        import sys
        from langchain_core.outputs import ChatGeneration
        from langchain_core.messages import AIMessage
        from askonce.integrations.langchain import SQLiteCache
        cache = SQLiteCache(sys.argv[1])
        cache.update("prompt", "model", [ChatGeneration(message=AIMessage("hi"))])
        print(cache.lookup("prompt", "model")[0].text, end="")
    """
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", program, tmp_path / "answers.db"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "hi"
    assert "askonce" not in done.stderr
    assert "langchain" not in done.stderr.lower()


def test_same_key_from_many_threads_raises_nothing(tmp_path):
    caches = [SQLiteCache(tmp_path / "answers.db") for _ in range(4)]

    def work(number):
        cache = caches[number % 4]
        for _ in range(25):
            cache.update("prompt", "model", [Generation(text=f"text {number}")])
            assert cache.lookup("prompt", "model")[0].text.startswith("text")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


def test_same_key_from_many_processes_raises_nothing(tmp_path):
    program = """if True:
        import sys
        from langchain_core.outputs import Generation
        from askonce.integrations.langchain import SQLiteCache
        cache = SQLiteCache(sys.argv[1])
        for number in range(100):
            cache.update(f"prompt {number % 5}", "model", [Generation(text=f"text {number % 5}")])
            (found,) = cache.lookup(f"prompt {number % 5}", "model")
            assert found.text == f"text {number % 5}"
    """
    arguments = [sys.executable, "-W", "error", "-c", program, tmp_path / "answers.db"]
    processes = [
        subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) for _ in range(4)
    ]
    outcomes = [(process.communicate()[1], process.returncode) for process in processes]
    assert outcomes == [("", 0)] * 4


def test_a_long_prompt_is_stored_once_not_thrice(tmp_path):
    path = tmp_path / "answers.db"
    cache = SQLiteCache(path)
    for number in range(200):
        cache.update(f"{number}" + "x" * 8000, "model", [Generation(text="short")])
    cache.close()
    assert path.stat().st_size < 200 * 1000


def test_answers_expire():
    model = CountingChat(cache=StoreCache("memory://", ttl=1e-9))
    model.invoke("hi")
    assert model.invoke("hi").content == "answer 2"
    model = CountingChat(cache=StoreCache("memory://", ttl=1000.0))
    model.invoke("hi")
    assert model.invoke("hi").content == "answer 1"
    with pytest.raises(InputError):
        StoreCache("memory://", ttl=0)


def test_the_least_recently_used_answer_goes_first_and_rewriting_evicts_none():
    cache = InMemoryCache(maxsize=2)
    for prompt in ("a", "b", "b", "b"):
        cache.update(prompt, "model", [Generation(text=prompt)])
    assert cache.lookup("a", "model")
    cache.update("c", "model", [Generation(text="c")])
    assert cache.lookup("b", "model") is None
    assert cache.lookup("a", "model")
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="maxsize must be greater than 0"):
            InMemoryCache(maxsize=wrong)


def test_clear_forgets_one_namespace_and_nothing_else():
    store = MemoryStore()
    ours, theirs = StoreCache(store, namespace="ours"), StoreCache(store, namespace="theirs")
    store.write({"ours/embedding/model/1": b"a vector"})
    for cache in (ours, theirs):
        cache.update("prompt", "model", [Generation(text=cache.namespace)])
    ours.clear()
    assert ours.lookup("prompt", "model") is None
    assert theirs.lookup("prompt", "model")[0].text == "theirs"
    assert store.read(["ours/embedding/model/1"]) == [b"a vector"]


def test_clear_lasts(tmp_path):
    SQLiteCache(tmp_path / "answers.db").update("prompt", "model", [Generation(text="old")])
    SQLiteCache(tmp_path / "answers.db").clear()
    assert SQLiteCache(tmp_path / "answers.db").lookup("prompt", "model") is None


def test_a_namespace_is_a_wall_between_tenants():
    store = MemoryStore()
    models = [SerializableChat(cache=StoreCache(store, namespace=name)) for name in ("A", "B")]
    for model in models:
        model.invoke("hi")
    assert [len(model.calls) for model in models] == [1, 1]


def test_all_generations_are_kept(cache):
    answers = [ChatGeneration(message=AIMessage(text)) for text in "abc"]
    cache.update("prompt", "model", answers)
    assert [found.text for found in cache.lookup("prompt", "model")] == ["a", "b", "c"]


def test_distinct_samples_are_kept_apart_by_their_number(cache):
    model = SerializableChat(cache=cache)
    drawn = [model.invoke("hi", seed=seed).content for seed in (0, 1, 2, 0, 1, 2)]
    assert drawn == ["answer 1", "answer 2", "answer 3"] * 2


class BrokenStore(Store):
    def read(self, keys):
        raise StoreError("no read")

    def write(self, entries, *, expires=0.0):
        raise RuntimeError("no write")

    def delete(self, keys):
        raise StoreError("no delete")

    def keys(self, prefix=""):
        raise StoreError("no keys")
        yield

    def close(self):
        pass


async def test_a_failing_store_never_loses_a_paid_answer():
    events = []
    model = CountingChat(cache=StoreCache(BrokenStore(), observe=events.append))
    assert model.invoke("hi").content == "answer 1"
    assert (await model.ainvoke("hi")).content == "answer 2"
    assert {event.kind for event in events} == {"miss", "store_failed"}
    with pytest.raises(StoreError):
        model.cache.clear()


async def test_a_failing_observer_breaks_no_call():
    def observe(event):
        raise RuntimeError(event.kind)

    model = CountingChat(cache=StoreCache("memory://", observe=observe))
    assert model.invoke("hi").content == (await model.ainvoke("hi")).content


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


@pytest.mark.parametrize("kind", [CountingChat, SerializableChat])
def test_a_bare_class_in_the_key_is_refused_with_what_to_do(kind):
    class Schema(BaseModel):
        field: int

    events = []
    model = kind(cache=InMemoryCache(observe=events.append))
    with pytest.warns(UserWarning, match="model_json_schema") as record:
        assert model.invoke("hi", response_format=Schema).content == "answer 1"
        assert model.invoke("hi", response_format=Schema).content == "answer 2"
    assert len(record) == 1
    assert "<class " in str(record[0].message)
    assert [(event.kind, event.code) for event in events] == [("refused", "unidentified")] * 2
    schema = Schema.model_json_schema()
    assert model.invoke("hi", response_format=schema).content == "answer 3"
    assert model.invoke("hi", response_format=schema).content == "answer 3"


@pytest.mark.parametrize("thing", [object(), lambda: None, print, [object()]])
def test_an_address_in_the_key_is_refused_with_what_to_do(thing):
    model = CountingChat(cache=InMemoryCache())
    if thing is print:
        model.invoke("hi", tools=thing)
        return
    with pytest.warns(UserWarning, match="address in memory") as record:
        model.invoke("hi", tools=thing)
        model.invoke("hi", tools=thing)
    assert len(record) == 1
    assert len(model.calls) == 2


def test_text_that_speaks_of_classes_and_addresses_is_cached(cache):
    text = "what is <class 'int'> or <object object at 0x7f00deadbeef>?"
    for model in (CountingChat(cache=cache), SerializableChat(cache=cache)):
        model.invoke(text, tools=[{"description": text}])
        model.invoke(text, tools=[{"description": text}])
        assert len(model.calls) == 1


def test_a_model_with_a_cache_can_be_copied_deeply(cache):
    model = CountingChat(cache=cache)
    model.invoke("hi")
    copy = model.model_copy(deep=True)
    assert copy.invoke("hi").content == "answer 1"
    assert copy.cache is cache


def test_a_cache_that_is_down_in_the_middle_breaks_no_call(tmp_path):
    path = tmp_path / "answers.db"
    model = CountingChat(cache=SQLiteCache(path))
    model.invoke("hi")
    path.write_bytes(b"not a database any more" * 1000)
    for rest in tmp_path.glob("answers.db-*"):
        rest.unlink()
    assert model.invoke("other").content
    assert model.invoke("hi").content


def test_threads_that_hit_do_not_share_objects(cache):
    model = CountingChat(cache=cache)
    model.invoke("hi")
    barrier = threading.Barrier(4)

    def ask(_):
        barrier.wait()
        return model.invoke("hi")

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, range(4)))
    assert len({id(answer.response_metadata) for answer in answers}) == 4
    assert len({answer.id for answer in answers}) == 4


def test_what_is_kept_in_memory_can_be_seen():
    cache = InMemoryCache(maxsize=2)
    assert cache._cache == {}
    cache.update("prompt", "model", [Generation(text="text")])
    assert list(cache._cache.values()) == [[Generation(text="text")]]
