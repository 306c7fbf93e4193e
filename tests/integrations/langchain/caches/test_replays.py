"""What is asked again is the same question, whatever is random or reordered in it."""

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from tests.integrations.langchain.chat_models import CountingChat, SerializableChat


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
