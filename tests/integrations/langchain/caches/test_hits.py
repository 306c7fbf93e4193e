"""A hit is the answer, with an id of its own, counted once, and nobody else's object."""

import json
import operator
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, TypedDict

import pytest
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.load import dumps, load
from langchain_core.messages import AIMessage, HumanMessage, messages_from_dict, messages_to_dict
from langchain_core.outputs import ChatGeneration
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from pydantic import BaseModel

from askonce.integrations.langchain import InMemoryCache, StoreCache
from tests.integrations.langchain.chat_models import CountingChat


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
