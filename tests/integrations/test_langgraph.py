"""LangGraph's node cache over our stores: each of its pains by name, with real graphs."""

import asyncio
import datetime
import decimal
import enum
import functools
import operator
import subprocess
import sys
import threading
import uuid
import warnings
import zoneinfo
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, TypedDict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage, ToolMessage
from langchain_core.runnables import RunnableLambda
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.message import REMOVE_ALL_MESSAGES
from langgraph.types import CachePolicy, Command, Overwrite, Send, interrupt
from pydantic import BaseModel

from askonce.core import flow
from askonce.errors import InputError, InputTypeError, StoreError
from askonce.integrations import langgraph
from askonce.integrations.langgraph import NodeCache, node_key
from askonce.integrations.langgraph_values import Reader, Writer, known_types
from askonce.stores.memory import MemoryStore
from tests.integrations.langchain.cached_models import StreamingChat

POLICY = CachePolicy(key_func=node_key)
WAITING = 20


class State(TypedDict, total=False):
    x: Any
    y: Any


def graph_of(node, cache, *, state=State, policy=POLICY, name="node", **compiling):
    builder = StateGraph(state).add_node(name, node, cache_policy=policy)
    return builder.add_edge(START, name).add_edge(name, END).compile(cache=cache, **compiling)


@pytest.fixture(params=["memory", "sqlite", "file", "lmdb"])
def cache(request, tmp_path):
    cache = NodeCache(
        {
            "memory": "memory://",
            "sqlite": f"sqlite:///{tmp_path}/nodes.db",
            "file": f"file:///{tmp_path}/files",
            "lmdb": f"lmdb:///{tmp_path}/lmdb",
        }[request.param]
    )
    yield cache
    cache.close()


def chatting(calls):
    def ask(state):
        calls.append(1)
        return {"messages": [AIMessage(f"answer to {state['messages'][-1].content}")]}

    return ask


async def test_l1_nodes_of_messages_hit_in_spite_of_random_ids(cache):
    calls = []
    graph = graph_of(chatting(calls), cache, state=MessagesState)
    outs = [graph.invoke({"messages": [HumanMessage("hi")]}) for _ in range(5)]
    outs += [await graph.ainvoke({"messages": [HumanMessage("hi")]}) for _ in range(2)]
    assert len(calls) == 1
    assert {out["messages"][-1].content for out in outs} == {"answer to hi"}
    assert len({out["messages"][-1].id for out in outs}) == 7
    graph.invoke({"messages": [HumanMessage("ho")]})
    assert len(calls) == 2


def test_l1_the_same_question_twice_in_a_thread_is_answered_twice():
    calls = []

    def ask(state):
        calls.append(1)
        return {"messages": [AIMessage("yes")]}

    thread = {"configurable": {"thread_id": "1"}}
    graph = StateGraph(MessagesState).add_node(
        "ask", ask, cache_policy=CachePolicy(key_func=lambda state: node_key(state["messages"][-1]))
    )
    graph = (
        graph.add_edge(START, "ask")
        .add_edge("ask", END)
        .compile(cache=NodeCache("memory://"), checkpointer=InMemorySaver())
    )
    for _ in range(2):
        out = graph.invoke({"messages": [HumanMessage("hi")]}, thread)
    assert len(calls) == 1
    assert [message.content for message in out["messages"]] == ["hi", "yes", "hi", "yes"]


def test_l1_ids_that_somebody_chose_count():
    calls = []
    graph = graph_of(chatting(calls), NodeCache("memory://"), state=MessagesState)
    for identifier in ("first", "second", "first"):
        graph.invoke({"messages": [HumanMessage("hi", id=identifier)]})
    assert len(calls) == 2


def test_l1_a_node_that_rewrites_what_it_was_given_is_not_cached():
    calls = []

    def shout(state):
        calls.append(1)
        message = state["messages"][-1]
        return {"messages": [HumanMessage(message.content.upper(), id=message.id)]}

    graph = graph_of(shout, NodeCache("memory://"), state=MessagesState)
    with pytest.warns(UserWarning, match="writes messages that it was given"):
        outs = [graph.invoke({"messages": [HumanMessage("hi")]}) for _ in range(2)]
    assert [[message.content for message in out["messages"]] for out in outs] == [["HI"], ["HI"]]
    assert len(calls) == 2


def test_l1_a_node_that_removes_messages_is_not_cached_unless_it_removes_all():
    calls = []

    def forget(state):
        calls.append(1)
        return {"messages": [RemoveMessage(id=state["messages"][0].id)]}

    def forget_all(state):
        calls.append(1)
        return {"messages": [RemoveMessage(id=REMOVE_ALL_MESSAGES), AIMessage("new")]}

    with pytest.warns(UserWarning, match="writes messages that it was given|removes messages"):
        for _ in range(2):
            out = graph_of(forget, NodeCache("memory://"), state=MessagesState).invoke(
                {"messages": [HumanMessage("hi")]}
            )
            assert out["messages"] == []
    calls.clear()
    graph = graph_of(forget_all, NodeCache("memory://"), state=MessagesState)
    outs = [graph.invoke({"messages": [HumanMessage("hi")]}) for _ in range(2)]
    assert [out["messages"][0].content for out in outs] == ["new", "new"]
    assert len(calls) == 1


def test_l1_langgraphs_own_key_keeps_the_ids_of_what_is_written():
    graph = graph_of(
        lambda state: {"messages": [AIMessage("a", id=str(uuid.uuid4()))]},
        NodeCache("memory://"),
        state=MessagesState,
        policy=CachePolicy(),
    )
    given = {"messages": [HumanMessage("hi", id="1")]}
    first, second = (graph.invoke(given)["messages"][-1].id for _ in range(2))
    assert first == second


def styles():
    """Make nodes that nothing tells apart but what they close over, or their code."""

    def node_in(style):
        def node(state):
            return {"y": f"{style} {state['x']}"}

        return node

    def other(state):
        return {"y": f"other {state['x']}"}

    other.__qualname__ = node_in("a").__qualname__
    other.__module__ = __name__

    def styled(state, style):
        return {"y": f"{style} {state['x']}"}

    class Styled:
        def __init__(self, style):
            self.style = style

        def __call__(self, state):
            return {"y": f"{self.style} {state['x']}"}

    yield "closures", [node_in("formal"), node_in("rude"), other]
    yield "partials", [functools.partial(styled, style=style) for style in ("formal", "rude")]
    yield "lambdas", [lambda state: {"y": "a"}, lambda state: {"y": "b"}]
    yield "runnables", [RunnableLambda(node_in(style)) for style in ("formal", "rude")]
    yield (
        "chains",
        [
            RunnableLambda(node_in(style)) | RunnableLambda(lambda out: out)
            for style in ("formal", "rude")
        ],
    )


@pytest.mark.parametrize(
    "nodes", [nodes for _, nodes in styles()], ids=[name for name, _ in styles()]
)
def test_l2_graphs_that_share_a_cache_do_not_answer_for_each_other(nodes):
    cache = NodeCache("memory://")
    outs = [[graph_of(node, cache).invoke({"x": 1})["y"] for node in nodes] for _ in range(2)]
    assert outs[0] == outs[1]
    assert len(set(outs[0])) == len(nodes)
    assert len(list(cache.store.keys())) == len(nodes)


def test_l2_models_that_nodes_close_over_count():
    def asking(model):
        def ask(state):
            return {"y": model.invoke("hi").content}

        return ask

    cache = NodeCache("memory://")
    models = [StreamingChat(model_name=name) for name in ("one", "two", "one")]
    outs = [graph_of(asking(model), cache).invoke({"x": 1})["y"] for model in models]
    assert outs == ["answer 1 of one", "answer 1 of two", "answer 1 of one"]
    assert not models[2].calls


def test_l2_what_a_node_counts_itself_does_not_matter():
    count = 0
    seen = {"n": 0}

    def node(state):
        nonlocal count
        count += 1
        seen["n"] += 1
        return {"y": count}

    graph = graph_of(node, NodeCache("memory://"))
    assert [graph.invoke({"x": 1})["y"] for _ in range(3)] == [1, 1, 1]
    assert seen == {"n": 1}


def test_l2_a_text_that_changes_under_a_node_is_seen():
    style = "formal"

    def node(state):
        return {"y": style}

    graph = graph_of(node, NodeCache("memory://"))
    assert graph.invoke({"x": 1})["y"] == "formal"
    style = "rude"
    assert graph.invoke({"x": 1})["y"] == "rude"


def test_l2_a_node_that_is_not_known_by_its_content_can_be_named():
    class Thing:
        calls = 0

    def using(thing):
        def node(state):
            thing.calls += 1
            return {"y": thing.calls}

        return node

    cache = NodeCache("memory://")
    thing = Thing()
    graph = graph_of(using(thing), cache)
    with pytest.warns(UserWarning, match=r"closes over, a .*Thing.*node_key.named"):
        graph.invoke({"x": 1})
    graph.invoke({"x": 1})
    assert thing.calls == 2
    assert not list(cache.store.keys())
    named = graph_of(using(thing), cache, policy=CachePolicy(key_func=node_key.named("using, 1")))
    assert [named.invoke({"x": 1})["y"] for _ in range(2)] == [3, 3]
    other = graph_of(using(thing), cache, policy=CachePolicy(key_func=node_key.named("using, 2")))
    assert other.invoke({"x": 1})["y"] == 4


def test_l2_namespaces_are_apart():
    store = MemoryStore()
    policy = CachePolicy(key_func=lambda state: "always the same")
    outs = [
        graph_of(
            lambda state, n=n: {"y": n}, NodeCache(store, namespace=namespace), policy=policy
        ).invoke({"x": 1})["y"]
        for n, namespace in enumerate(["a", "b", "a"])
    ]
    assert outs == [0, 1, 0]


def test_l3_arrays_of_other_types_or_shapes_are_other_inputs():
    calls = []

    def total(state):
        calls.append(1)
        return {"y": float(np.asarray(state["x"], dtype="float64").sum())}

    graph = graph_of(total, NodeCache("memory://"))
    inputs = [
        np.array([1, 0], "int32"),
        np.array([1], "int64"),
        np.array([[1, 0]], "int32"),
        np.array([1, 0], ">i4"),
        np.arange(4)[::2],
        np.arange(2),
        np.array(["a", "b"], object),
        np.array(["a", "c"], object),
    ]
    for given in inputs[:6]:
        graph.invoke({"x": given})
    assert len(calls) == 6
    keys = {node_key({"x": given}) for given in inputs}
    assert len(keys) == len(inputs)
    graph.invoke({"x": np.array([1, 0], "int32")})
    assert len(calls) == 6


@pytest.mark.parametrize("name", ["a,b", "a/b", "a b", "ä", "a'b\"c", "."])
async def test_l4_any_name_of_a_node_will_do(name, cache):
    calls = []

    def node(state):
        calls.append(1)
        return {"y": 1}

    graph = graph_of(node, cache, name=name)
    for _ in range(2):
        assert graph.invoke({"x": 1})["y"] == 1
        assert (await graph.ainvoke({"x": 1}))["y"] == 1
    assert len(calls) == 1


FULL = (("ns", "node"), "key")


async def test_l5_async_verbs_are_async_down_to_the_store():
    class Noting(MemoryStore):
        def __init__(self):
            super().__init__()
            self.seen = []

        async def aread(self, keys):
            self.seen.append("aread")
            return MemoryStore.read(self, keys)

        async def awrite(self, entries, *, expires=0):
            self.seen.append("awrite")
            MemoryStore.write(self, entries, expires=expires)

        async def aclear(self, prefix):
            self.seen.append("aclear")
            return MemoryStore.clear(self, prefix)

        def read(self, keys):
            raise AssertionError("it blocks")

        write = read

    cache = NodeCache(Noting())
    await cache.aset({FULL: ([("x", 1)], None)})
    assert await cache.aget([FULL]) == {FULL: [("x", 1)]}
    await cache.aclear()
    assert set(cache.store.seen) == {"aread", "awrite", "aclear"}


def test_l5_a_store_that_fails_is_a_miss_and_is_told():
    class Broken(MemoryStore):
        def read(self, keys):
            raise StoreError("gone")

        def write(self, entries, *, expires=0):
            raise StoreError("gone")

    events = []
    graph = graph_of(lambda state: {"y": 1}, NodeCache(Broken(), observe=events.append))
    assert graph.invoke({"x": 1})["y"] == 1
    assert "store_failed" in {event.kind for event in events}


def test_l5_clear_forgets_what_was_named_and_nothing_else(cache):
    names = [("a",), ("a", "b"), ("a,b",), ("ab",), ()]
    cache.set({(name, "key"): (index, None) for index, name in enumerate(names)})
    other = NodeCache(cache.store, namespace="other")
    other.set({(("a",), "key"): ("other", None)})
    cache.store.write({"_/chat/model/entry": b"answer"})
    cache.clear([("a",)])
    assert cache.get([(name, "key") for name in names]) == {
        (name, "key"): index for index, name in enumerate(names) if index
    }
    cache.clear([])
    assert len(cache.get([(name, "key") for name in names])) == 4
    cache.clear()
    assert cache.get([(name, "key") for name in names]) == {}
    assert other.get([(("a",), "key")]) == {(("a",), "key"): "other"}
    assert cache.store.read(["_/chat/model/entry"]) == [b"answer"]


def test_l5_values_expire(monkeypatch):
    cache = NodeCache("memory://")
    cache.set({FULL: (1, 60), (("ns",), "key"): (2, None)})
    clock = flow.now
    monkeypatch.setattr(flow, "now", lambda: clock() + 61)
    assert cache.get([FULL, (("ns",), "key")]) == {(("ns",), "key"): 2}


def test_ttl_of_a_policy_is_kept(monkeypatch):
    calls = []

    def node(state):
        calls.append(1)
        return {"y": 1}

    graph = graph_of(node, NodeCache("memory://"), policy=CachePolicy(key_func=node_key, ttl=60))
    clock = flow.now
    for later in (0, 59, 61):
        monkeypatch.setattr(flow, "now", lambda later=later: clock() + later)
        graph.invoke({"x": 1})
    assert len(calls) == 2


class Gate:
    """Let nodes in one by one, and hold them up."""

    def __init__(self):
        self.calls = []
        self.open = threading.Event()
        self.entered = threading.Semaphore(0)
        self.failing = 0

    def pass_through(self):
        self.calls.append(1)
        number = len(self.calls)
        self.entered.release()
        assert self.open.wait(WAITING)
        if number <= self.failing:
            raise PermissionError(number)
        return number


@pytest.mark.parametrize("url", ["memory", "sqlite"])
def test_l6_one_of_eight_runs_the_node(url, tmp_path):
    gate = Gate()
    cache = NodeCache("memory://" if url == "memory" else f"sqlite:///{tmp_path}/nodes.db")
    policy = CachePolicy(key_func=node_key.named("gate"))
    graph = graph_of(lambda state: {"y": gate.pass_through()}, cache, policy=policy)
    with ThreadPoolExecutor(8) as pool:
        runs = [pool.submit(graph.invoke, {"x": 1}) for _ in range(8)]
        assert gate.entered.acquire(timeout=WAITING)
        gate.open.set()
        outs = [run.result(WAITING) for run in runs]
    assert [out["y"] for out in outs] == [1] * 8
    assert len(gate.calls) == 1
    cache.close()


def test_l6_what_a_finished_node_wrote_is_waited_for(monkeypatch):
    gone_on, looked = threading.Event(), threading.Semaphore(0)

    class SlowToSet(NodeCache):
        def set(self, pairs):
            assert gone_on.wait(WAITING)
            for _ in range(3):
                assert looked.acquire(timeout=WAITING)
            super().set(pairs)

    is_at_work = langgraph._led.is_at_work

    def counted(flight):
        answer = is_at_work(flight)
        if gone_on.is_set():
            looked.release()
        return answer

    monkeypatch.setattr(langgraph._led, "is_at_work", counted)
    gate = Gate()
    builder = StateGraph(State).add_edge(START, "first").add_edge("first", "second")
    policy = CachePolicy(key_func=node_key.named("gate"))
    builder.add_node("first", lambda state: {"y": gate.pass_through()}, cache_policy=policy)
    builder.add_node("second", lambda state: gone_on.set())
    graph = builder.compile(cache=SlowToSet("memory://"))
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(graph.invoke, {"x": 1})
        assert gate.entered.acquire(timeout=WAITING)
        second = pool.submit(graph.invoke, {"x": 1})
        gate.open.set()
        assert [run.result(WAITING)["y"] for run in (first, second)] == [1, 1]
    assert len(gate.calls) == 1


async def test_l6_one_of_eight_tasks_runs_the_node():
    calls = []
    release = asyncio.Event()

    async def node(state):
        calls.append(1)
        await release.wait()
        return {"y": len(calls)}

    policy = CachePolicy(key_func=node_key.named("waiting"))
    graph = graph_of(node, NodeCache("memory://"), policy=policy)
    runs = [asyncio.ensure_future(graph.ainvoke({"x": 1})) for _ in range(8)]
    while not calls:
        await asyncio.sleep(0)
    release.set()
    assert [out["y"] for out in await asyncio.gather(*runs)] == [1] * 8
    assert len(calls) == 1


def test_l6_a_node_that_fails_lets_the_next_one_run():
    gate = Gate()
    gate.failing = 1
    policy = CachePolicy(key_func=node_key.named("gate"))
    graph = graph_of(
        lambda state: {"y": gate.pass_through()}, NodeCache("memory://", wait=600), policy=policy
    )
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(graph.invoke, {"x": 1}) for _ in range(4)]
        assert gate.entered.acquire(timeout=WAITING)
        gate.open.set()
        outs = [run.exception(WAITING) or run.result()["y"] for run in runs]
    assert sorted(map(str, outs)) == ["1", "2", "2", "2"]
    assert len(gate.calls) == 2


def test_l6_a_node_that_is_interrupted_blocks_nobody():
    calls = []

    def node(state):
        calls.append(1)
        return {"y": interrupt("really?")}

    policy = CachePolicy(key_func=node_key.named("asking"))
    cache = NodeCache("memory://", wait=600)
    graph = graph_of(node, cache, policy=policy, checkpointer=InMemorySaver())
    for number in range(3):
        thread = {"configurable": {"thread_id": str(number)}}
        assert "__interrupt__" in graph.invoke({"x": 1}, thread)
    assert graph.invoke(Command(resume="yes"), thread)["y"] == "yes"
    assert graph.invoke({"x": 1}, {"configurable": {"thread_id": "4"}})["y"] == "yes"


def test_l6_parallel_nodes_of_one_step_do_not_wait_for_each_other():
    calls = []

    class Many(TypedDict):
        out: Annotated[list, operator.add]

    def work(state):
        calls.append(state["n"])
        return {"out": [state["n"]]}

    policy = CachePolicy(key_func=node_key.named("work"))
    builder = StateGraph(Many).add_node("work", work, cache_policy=policy)
    builder.add_conditional_edges(START, lambda state: [Send("work", {"n": n}) for n in (1, 2, 3)])
    graph = builder.add_edge("work", END).compile(cache=NodeCache("memory://", wait=600))
    assert sorted(graph.invoke({"out": []})["out"]) == [1, 2, 3]
    before = len(calls)
    assert sorted(graph.invoke({"out": []})["out"]) == [1, 2, 3]
    assert len(calls) == before


def test_l6_a_graph_inside_a_node_does_not_wait_for_the_node_around_it():
    cache = NodeCache("memory://", wait=600)
    policy = CachePolicy(key_func=node_key.named("the same"))
    inner = graph_of(lambda state: {"y": "inner"}, cache, policy=policy)
    outer = graph_of(
        lambda state: {"y": inner.invoke({"x": state["x"]})["y"]}, cache, policy=policy
    )
    assert outer.invoke({"x": 1})["y"] == "inner"


def test_tasks_of_the_functional_api_are_cached_by_all_their_arguments():
    calls = []

    @task(cache_policy=POLICY)
    def add(a, b=0):
        calls.append((a, b))
        return a + b

    @entrypoint(cache=NodeCache("memory://"))
    def flow_of_tasks(given):
        return [add(1).result(), add(1, b=2).result(), add(given).result()]

    assert [flow_of_tasks.invoke(5) for _ in range(2)] == [[1, 3, 5]] * 2
    assert len(calls) == 3


def test_a_node_sees_the_same_from_another_process(tmp_path):
    code = (
        "from langgraph.types import CachePolicy\n"
        "from langchain_core.messages import HumanMessage, AIMessage\n"
        "from langgraph.graph import MessagesState\n"
        "from askonce.integrations.langgraph import NodeCache\n"
        "from tests.integrations.test_langgraph import graph_of\n"
        "style = {'a', 'b', 'c'}\n"
        "def make(style):\n"
        "    def node(state):\n"
        "        print('ran')\n"
        "        return {'messages': [AIMessage(' '.join(sorted(style)))]}\n"
        "    return node\n"
        f"cache = NodeCache('sqlite:////{tmp_path}/nodes.db')\n"
        "graph = graph_of(make(style), cache, state=MessagesState)\n"
        "print(graph.invoke({'messages': [HumanMessage('hi')]})['messages'][-1].content)\n"
        "cache.close()\n"
    )
    printed = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            check=True,
            text=True,
        ).stdout.split("\n")[:-1]
        for seed in ("1", "2")
    ]
    assert printed == [["ran", "a b c"], ["a b c"]]


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


def test_it_agrees_with_langgraphs_own_cache():
    ours, theirs = NodeCache("memory://"), InMemoryCache()
    for cache in (ours, theirs):
        cache.set({FULL: ([("x", 1)], None), (("ns",), "key"): (None, 5)})
    keys = [FULL, (("ns",), "key"), (("ns",), "another")]
    found = ours.get(keys)
    assert found == {FULL: [("x", 1)], (("ns",), "key"): None}
    assert theirs.get(keys) == found | {FULL: [["x", 1]]}  # Theirs makes lists of tuples.


def test_hits_warn_of_nothing():
    graph = graph_of(chatting([]), NodeCache("memory://"), state=MessagesState)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            graph.invoke({"messages": [HumanMessage("hi")]})
