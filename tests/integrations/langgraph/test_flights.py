"""L6: of all who run the same node at the same moment one does."""

import asyncio
import operator
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, TypedDict

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import CachePolicy, Command, Send, interrupt

from askonce.integrations import langgraph
from askonce.integrations.langgraph import NodeCache, node_key
from tests.integrations.langgraph.graphs import State, graph_of

WAITING = 60


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
