"""Answers as JSON and back."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, AIMessageChunk, ChatMessage, HumanMessage, ToolMessage
from langchain_core.messages.tool import invalid_tool_call, tool_call, tool_call_chunk
from langchain_core.outputs import (
    ChatGeneration,
    ChatGenerationChunk,
    Generation,
    GenerationChunk,
)
from pydantic import BaseModel, Field

from askonce.integrations.langchain.messages import MESSAGES, Refused, decode, encode, tokens_of

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
DICTS = st.dictionaries(st.text(), PLAIN, max_size=3).map(
    lambda values: {name: value for name, value in values.items() if name != "cache_hit"}
)
USAGE = st.none() | st.just({"input_tokens": 1, "output_tokens": 2, "total_tokens": 3})
CONTENT = st.text() | st.lists(
    st.text() | st.fixed_dictionaries({"type": st.just("text"), "text": st.text()}), max_size=3
)
MESSAGE = st.builds(
    AIMessage,
    content=CONTENT,
    additional_kwargs=DICTS.map(lambda values: {"own": values}),
    response_metadata=DICTS,
    name=st.none() | st.text(),
    id=st.none() | st.text(),
    usage_metadata=USAGE,
    tool_calls=st.lists(
        st.builds(tool_call, name=st.text(), args=DICTS, id=st.text()), max_size=2
    ),
    invalid_tool_calls=st.lists(
        st.builds(
            invalid_tool_call, name=st.text(), args=st.text(), id=st.text(), error=st.text()
        ),
        max_size=2,
    ),
)


def unmarked(generation):
    """Take off a hit what tells it from the answer that was stored."""
    message = generation.message
    assert message.id.startswith("lc_run--")
    assert message.additional_kwargs.pop("cache_hit") is True
    assert generation.generation_info.pop("cache_hit") is True
    message.id = None
    if isinstance(message, AIMessage):
        assert set(message.usage_metadata.values()) == {0}
        message.usage_metadata = None
    return generation


def through(*generations):
    return decode(encode(generations))


@given(MESSAGE, st.none() | DICTS)
def test_a_chat_answer_comes_back_equal(message, info):
    stored = ChatGeneration(message=message, generation_info=info)
    (found,) = through(stored)
    unmarked(found)
    expected = stored.model_copy(
        update={
            "message": message.model_copy(update={"id": None, "usage_metadata": None}),
            "generation_info": info or {},
        }
    )
    assert found == expected
    assert dumps(found) == dumps(expected)


@given(st.text(), st.none() | DICTS)
def test_a_completion_comes_back_equal(text, info):
    for kind in (Generation, GenerationChunk):
        stored = kind(text=text, generation_info=info)
        assert through(stored, stored) == [stored, stored]


@pytest.mark.parametrize(
    "message",
    [
        HumanMessage("hi", name=""),
        ChatMessage("hi", role="critic"),
        ToolMessage("3", tool_call_id="1", artifact={"a": 1}, status="error"),
        AIMessage("hi", example=True, own_field={"a": [1]}),
        AIMessage("", tool_calls=[{**tool_call(name="f", args={}, id="1")}]),
        AIMessage([{"type": "reasoning", "reasoning": "so"}, {"type": "text", "text": "hi"}]),
        AIMessage([{"text": "no type"}]),
    ],
)
def test_other_messages_come_back_equal(message):
    stored = ChatGeneration(message=message)
    found = unmarked(through(stored)[0])
    assert found.message == message
    assert found.text == stored.text


def test_the_extras_of_a_tool_call_come_back():
    message = AIMessage("")
    message.tool_calls = [{**tool_call(name="f", args={}, id="1"), "extras": {"signature": "x"}}]
    (found,) = through(ChatGeneration(message=message))
    assert found.message.tool_calls == message.tool_calls


def test_chunks_come_back_as_chunks():
    chunk = AIMessageChunk(
        "hi",
        tool_call_chunks=[tool_call_chunk(name="f", args='{"a"', id="1", index=0)],
        chunk_position="last",
    )
    stored = ChatGenerationChunk(message=chunk)
    found = unmarked(through(stored)[0])
    assert found.message == chunk.model_copy(update={"id": None})
    assert type(found) is ChatGenerationChunk


def test_every_message_type_is_in_the_table_under_its_own_name():
    for name, kind in MESSAGES.items():
        assert kind.model_fields["type"].default == name


def test_the_tokens_of_all_generations_are_counted():
    usage = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3, "total_cost": 0}
    generation = ChatGeneration(message=AIMessage("x", usage_metadata=usage))
    assert tokens_of([generation, generation]) == {
        "input_tokens": 2,
        "output_tokens": 4,
        "total_tokens": 6,
    }
    assert tokens_of([Generation(text="x")]) == {}


def test_parsed_output_that_has_aliases_can_be_made_again():
    class Aliased(BaseModel):
        field: int = Field(alias="theirs")

    parsed = Aliased(theirs=1)
    message = AIMessage("x", additional_kwargs={"parsed": parsed})
    (found,) = through(ChatGeneration(message=message))
    assert Aliased(**found.message.additional_kwargs["parsed"]) == parsed


def test_parsed_output_that_cannot_be_made_again_is_refused():
    class Odd(BaseModel):
        field: int = Field(validation_alias="a", serialization_alias="b")

    message = AIMessage("x", additional_kwargs={"parsed": Odd(a=1)})
    with pytest.raises(Refused):
        encode([ChatGeneration(message=message)])


def test_an_empty_answer_is_refused():
    with pytest.raises(Refused):
        encode([])


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"generations": []}',
        b'{"generations": [7]}',
        b'{"generations": [{"type": "os.system", "text": "ls"}]}',
        b'{"generations": [{"type": ["Generation"], "text": "x"}]}',
        b'{"generations": [{"type": "Generation"}]}',
        b'{"generations": [{"type": "Generation", "text": 7}]}',
        b'{"generations": [{"type": "ChatGeneration"}]}',
        b'{"generations": [{"type": "ChatGeneration", "message": {"type": "ai"}}]}',
        b'{"generations": [{"type": "ChatGeneration", "message": {"type": "x", "content": ""}}]}',
        b'{"generations": [{"type": "ChatGeneration", "message": {"type": "ai", "content": 7}}]}',
        b'{"generations": [{"type": "Generation", "text": "x"}, {}]}',
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_what_is_no_answer_is_none(payload):
    assert decode(payload) is None


def test_the_stored_form():
    message = AIMessage("hi", response_metadata={"model_name": "m"}, id="1")
    payload = encode([ChatGeneration(message=message, generation_info={"a": 1})])
    assert json.loads(payload) == {
        "generations": [
            {
                "type": "ChatGeneration",
                "message": {
                    "type": "ai",
                    "content": "hi",
                    "response_metadata": {"model_name": "m"},
                },
                "generation_info": {"a": 1},
            }
        ]
    }
