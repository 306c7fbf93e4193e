"""What nodes write comes back as it was, or is not kept."""

import datetime
import decimal
import enum
import uuid
import zoneinfo
from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage, ToolMessage
from langgraph.graph.message import REMOVE_ALL_MESSAGES
from langgraph.types import Overwrite, Send
from pydantic import BaseModel

from askonce.errors import InputError, InputTypeError
from askonce.integrations.langgraph import NodeCache
from askonce.integrations.langgraph_values import Reader, Writer, known_types
from askonce.stores.memory import MemoryStore
from tests.integrations.langgraph.graphs import FULL, graph_of


class Point(BaseModel):
    x: int
    y: Any = None


@dataclass(frozen=True)
class Place:
    row: int
    within: Any = None


class Colour(enum.Enum):
    RED = 1


class Pair(NamedTuple):
    a: int


TYPES = [Point, Place, Colour]
VALUES = [
    None,
    True,
    0,
    -(2**70),
    1.5,
    float("inf"),
    -0.0,
    "",
    "\ud800",
    b"\0\xff",
    (1, (2,)),
    {1, 2},
    frozenset({"a"}),
    deque([1, 2]),
    {},
    {"a": 1},
    {1: "a", (2, 3): None},
    {"dict": [1]},
    {"message": {}},
    [("x", 1)],
    datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
    datetime.date(2024, 1, 1),
    datetime.time(1),
    datetime.timedelta(1, 2, 3),
    datetime.datetime(2024, 10, 27, 2, 30, tzinfo=zoneinfo.ZoneInfo("Europe/Paris"), fold=1),
    datetime.time(1, tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
    uuid.UUID(int=5),
    decimal.Decimal("1.10"),
    Point(x=1, y=Place(2, {"a": Colour.RED})),
    Place(1, [Point(x=2)]),
    Colour.RED,
    AIMessage(
        "a",
        id="x",
        tool_calls=[{"name": "f", "args": {"a": 1}, "id": "1", "type": "tool_call"}],
        usage_metadata={"input_tokens": 1, "output_tokens": 1, "total_tokens": 2},
    ),
    HumanMessage([{"type": "text", "text": "a"}], name="me", more=1),
    ToolMessage("a", tool_call_id="1", artifact=Point(x=1)),
    RemoveMessage(id=REMOVE_ALL_MESSAGES),
    Document("text", metadata={"page": 1}, id="1"),
    Send("node", {"a": [Point(x=1)]}),
    Overwrite([1]),
]


def there_and_back(value, types=TYPES, fresh=False):
    import json

    known = known_types(types)
    return Reader(known, fresh=fresh).read(json.loads(Writer(known).write(value)))


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_every_value_comes_back(value):
    back = there_and_back(value)
    assert back == value
    assert type(back) is type(value)
    assert repr(back) == repr(value)


@pytest.mark.parametrize(
    "array",
    [
        np.array([1, 2], ">i4"),
        np.zeros((2, 0)),
        np.float32(1.5),
        np.array(3),
        np.array(["2024-01-01"], "datetime64[s]"),
        np.array([True]),
    ],
)
def test_arrays_come_back(array):
    back = there_and_back(array)
    assert type(back) is type(array)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.datetimes(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.builds(Point, x=st.integers(), y=inner)
    ),
    max_leaves=10,
)


@settings(deadline=None)
@given(PLAIN)
def test_all_plain_data_comes_back(value):
    assert repr(there_and_back(value)) == repr(value)


@pytest.mark.parametrize(
    "value",
    [
        object(),
        Pair(1),
        lambda: 1,
        Point,
        ValueError("x"),
        np.array([object()]),
        iter([1]),
        Send("x", 1, timeout=3),
    ],
)
def test_what_would_need_its_code_to_come_back_is_not_kept_and_told(value):
    events = []
    cache = NodeCache("memory://", observe=events.append)
    with pytest.warns(UserWarning, match="not cached"):
        cache.set({FULL: ([("x", value)], None)})
    assert cache.get([FULL]) == {}
    assert [event.kind for event in events[:2]] == ["miss", "refused"]
    assert events[1].code == "not_plain"


def test_a_class_must_be_named_to_come_back():
    calls = []

    def node(state):
        calls.append(1)
        return {"y": Point(x=1)}

    with pytest.warns(UserWarning, match=r"types=\[Point\]"):
        graph = graph_of(node, NodeCache("memory://"))
        assert [graph.invoke({"x": 1})["y"] for _ in range(2)] == [Point(x=1)] * 2
    assert len(calls) == 2
    graph = graph_of(node, NodeCache("memory://", types=[Point]))
    assert [graph.invoke({"x": 1})["y"] for _ in range(2)] == [Point(x=1)] * 2
    assert len(calls) == 3


def test_an_entry_of_a_class_that_changed_is_a_miss():
    store = MemoryStore()
    NodeCache(store, types=[Point, Place]).set(
        {FULL: (Point(x=1), None), (("b",), "key"): (Place(1), None)}
    )

    class Changed(BaseModel):
        x: int
        z: int

    Changed.__qualname__ = "Point"
    for types in ([Changed], []):
        assert NodeCache(store, types=types).get([FULL, (("b",), "key")]) == {}


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"[]",
        b"{}",
        b'{"fresh":false,"value":{"evil":1}}',
        b'{"fresh":false,"value":{"model":["os.system",{}]}}',
        b'{"fresh":false,"value":{"message":{"type":"evil"}}}',
        b'{"fresh":false,"value":{}}',
        b'{"fresh":false,"value":{"array":["|O",[1],"AAAAAAAAAAA="]}}',
        b'{"fresh":false,"value":{"bytes":"!"}}',
        b'{"fresh":false,"value":{"dict":[[[],1]]}}',
    ],
)
def test_an_entry_that_is_none_of_ours_is_a_miss(record):
    cache = NodeCache("memory://", types=TYPES)
    question = cache._question(FULL)
    cache.store.write({question.key: question.pack(record, {}, now=0, ttl=None)[0]})
    assert cache.get([FULL]) == {}


def test_random_ids_are_drawn_anew_and_the_same_message_stays_the_same():
    message = AIMessage("a", id=f"lc_run--{uuid.uuid4()}-0")
    again = there_and_back(
        {"messages": [message], "last": message, "kept": AIMessage("b", id="summary")}, fresh=True
    )
    assert again["messages"][0].id == again["last"].id != message.id
    assert again["kept"].id == "summary"


def test_what_holds_itself_is_not_kept():
    loop = []
    loop.append(loop)
    with pytest.warns(UserWarning, match="holds itself"):
        NodeCache("memory://").set({FULL: (loop, None)})


def test_types_are_checked():
    with pytest.raises(InputTypeError, match="not a pydantic model"):
        NodeCache("memory://", types=[int])
    with pytest.raises(InputError, match="two of the types"):
        NodeCache(
            "memory://", types=[Point, type("Point", (BaseModel,), {"__qualname__": "Point"})]
        )
