"""L2 to L4: what decides which nodes and inputs are the same."""

import functools

import numpy as np
import pytest
from langchain_core.runnables import RunnableLambda
from langgraph.types import CachePolicy

from askonce.integrations.langgraph import NodeCache, node_key
from askonce.stores.memory import MemoryStore
from tests.integrations.langchain.cached_models import StreamingChat
from tests.integrations.langgraph.graphs import graph_of


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
