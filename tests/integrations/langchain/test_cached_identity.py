"""What makes two calls of a wrapped model the same call."""

import datetime
import enum
import uuid
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    ChatMessage,
    HumanMessage,
    HumanMessageChunk,
    SystemMessage,
    ToolMessage,
)
from langchain_core.messages.content import create_image_block
from langchain_core.rate_limiters import BaseRateLimiter
from pydantic import BaseModel, ConfigDict, SecretStr

from askonce.integrations.langchain import cached
from askonce.integrations.langchain.cached_content import Unstable, canonical, content_of
from askonce.stores.memory import MemoryStore
from tests.integrations.langchain.cached_models import AsyncStreamingChat, StreamingChat
from tests.integrations.langchain.chat_models import SerializableChat


def key(messages="hi", model=None, **arguments):
    model = cached(model or StreamingChat(), store="memory://")
    given = [HumanMessage(messages)] if isinstance(messages, str) else messages
    return model._question(given, None, arguments).key


SAME = {
    "ids": ([HumanMessage("a", id="1")], [HumanMessage("a", id="2")]),
    "usage": (
        [AIMessage("a", usage_metadata={"input_tokens": 1, "output_tokens": 1, "total_tokens": 2})],
        [AIMessage("a")],
    ),
    "a hit": ([AIMessage("a", additional_kwargs={"cache_hit": True})], [AIMessage("a")]),
    "chunks": ([AIMessageChunk("a", chunk_position="last")], [AIMessage("a")]),
    "a human chunk": ([HumanMessageChunk("a")], [HumanMessage("a")]),
    "ids of blocks": (
        [HumanMessage([create_image_block(url="https://x/y.png")])],
        [HumanMessage([create_image_block(url="https://x/y.png")])],
    ),
}
DIFFERENT = {
    "text": ([HumanMessage("a")], [HumanMessage("b")]),
    "role": ([HumanMessage("a")], [SystemMessage("a")]),
    "chat role": ([ChatMessage("a", role="x")], [ChatMessage("a", role="y")]),
    "name": ([HumanMessage("a", name="x")], [HumanMessage("a", name="y")]),
    "number": ([HumanMessage("a"), HumanMessage("b")], [HumanMessage("ab")]),
    "order": ([HumanMessage("a"), HumanMessage("b")], [HumanMessage("b"), HumanMessage("a")]),
    "blocks": ([HumanMessage("a")], [HumanMessage([{"type": "text", "text": "a"}])]),
    "call": ([ToolMessage("a", tool_call_id="1")], [ToolMessage("a", tool_call_id="2")]),
    "metadata": ([AIMessage("a", response_metadata={"id": "1"})], [AIMessage("a", response_metadata={"id": "2"})]),
    "extra": ([AIMessage("a", additional_kwargs={"x": 1})], [AIMessage("a")]),
    "a block's own id": (
        [HumanMessage([{"type": "file", "id": "file-1"}])],
        [HumanMessage([{"type": "file", "id": "file-2"}])],
    ),
}


@pytest.mark.parametrize("pair", SAME.values(), ids=SAME)
def test_what_does_not_reach_the_model_is_left_out(pair):
    assert key(pair[0]) == key(pair[1])


@pytest.mark.parametrize("pair", DIFFERENT.values(), ids=DIFFERENT)
def test_what_the_model_sees_counts(pair):
    assert key(pair[0]) != key(pair[1])


@pytest.mark.parametrize(
    "settings",
    [
        {"streaming": True},
        {"disable_streaming": True},
        {"tags": ["x"]},
        {"metadata": {"x": 1}},
        {"verbose": True},
        {"name": "mine"},
        {"cache": False},
        {"max_retries": 9},
        {"request_timeout": 3.0},
        {"api_key": "another"},
    ],
)
def test_how_an_answer_travels_does_not_count(settings):
    assert key(model=SerializableChat(**settings)) == key(model=SerializableChat())


@pytest.mark.parametrize("settings", [{"temperature": 1.0}, {"model_name": "b"}, {"output_version": "v1"}])
def test_every_other_setting_counts(settings):
    assert key(model=SerializableChat(**settings)) != key(model=SerializableChat())


def test_a_setting_at_none_is_not_made():
    assert key(temperature=None) == key()
    assert key(temperature=0.0) != key()


def test_the_class_counts():
    assert key(model=StreamingChat()) != key(model=AsyncStreamingChat())


def test_extra_fields_count():
    class Open(StreamingChat):
        model_config = ConfigDict(extra="allow")

    assert key(model=Open(top_k=1)) != key(model=Open(top_k=2))


def test_the_settings_of_a_model_inside_a_model_count():
    class Outer(StreamingChat):
        inner: StreamingChat = None

    keys = [key(model=Outer(inner=StreamingChat(temperature=t))) for t in (0.0, 1.0, 1.0)]
    assert keys[0] != keys[1] == keys[2]
    tagged = Outer(inner=StreamingChat(temperature=0.0, tags=["x"]))
    assert key(model=tagged) == keys[0]


def test_names_that_only_travel_do_not_count():
    plain = key(response_format={"type": "json"})
    assert plain == key(response_format={"type": "json"}, stream=True, timeout=3, ls_structured_output_format={"x": 1})
    assert plain != key(response_format={"type": "text"})


class Limiter(BaseRateLimiter):
    def __init__(self):
        self.calls = []

    def acquire(self, *, blocking=True):
        self.calls.append("sync")
        return True

    async def aacquire(self, *, blocking=True):
        self.calls.append("async")
        return True


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclass
class Place:
    row: int


class Setting(BaseModel):
    width: int
    secret: SecretStr | None = None


VALUES = [
    None, True, 1, 1.0, "1", "", b"1", [1], [[1]], {"1": 1}, {"a": None}, {1, 2}, frozenset({3}),
    Colour.RED, Colour.BLUE, Colour, Place(1), Place(2), Setting(width=1), Setting(width=2), Setting,
    datetime.date(2024, 1, 1), datetime.datetime(2024, 1, 1), datetime.timedelta(1), uuid.UUID(int=1),
    range(1), range(2), np.array([1, 2]), np.array([1, 2], "int32"), np.array([[1, 2]]), np.array([1.0]),
    np.array([b"\1"], object), int, str,
]


def test_values_of_all_kinds_differ():
    encoded = [canonical(value, content_of) for value in VALUES]
    assert len(set(encoded)) == len(encoded)


def test_the_same_content_is_the_same():
    pairs = [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"x", "y", "z"}, {"z", "y", "x"}),
        ((1, 2), [1, 2]),
        (Setting(width=1, secret=SecretStr("a")), Setting(width=1, secret=SecretStr("b"))),
    ]
    for one, other in pairs:
        assert canonical(one, content_of) == canonical(other, content_of)


@pytest.mark.parametrize("value", [object(), lambda: 1, print, Limiter, {(1, 2): 3}, iter([]), open])
def test_what_has_no_content_is_refused(value):
    with pytest.raises(Unstable):
        canonical({"x": value}, content_of)


def test_a_value_inside_itself_is_refused():
    loop = []
    loop.append(loop)
    with pytest.raises(Unstable):
        canonical(loop, content_of)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def strict(value):
    """Tell values apart as JSON does: 1, 1.0 and true differ."""
    if isinstance(value, dict):
        return {name: strict(part) for name, part in value.items()}
    if isinstance(value, list):
        return [strict(part) for part in value]
    return (type(value).__name__, repr(value))


@settings(deadline=None)
@given(JSON, JSON)
def test_equal_bytes_are_equal_values(one, other):
    same = canonical(one, content_of) == canonical(other, content_of)
    assert same == (strict(one) == strict(other))


def test_a_call_without_content_in_the_prompt_is_told_so():
    model = cached(StreamingChat(), store=MemoryStore())
    with pytest.warns(UserWarning, match="the prompt holds"):
        model.invoke([HumanMessage("hi", additional_kwargs={"x": object()})])


async def test_only_misses_are_limited_in_rate():
    limiter = Limiter()
    model = cached(StreamingChat(rate_limiter=limiter), store=MemoryStore())
    for _ in range(2):
        model.invoke("a")
        await model.ainvoke("b")
        list(model.stream("c"))
        [chunk async for chunk in model.astream("d")]
    assert sorted(limiter.calls) == ["async", "async", "sync", "sync"]
