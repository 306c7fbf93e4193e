"""Tasks, other processes, and LangGraph's own cache beside ours."""

import subprocess
import sys
import warnings

from langchain_core.messages import HumanMessage
from langgraph.cache.memory import InMemoryCache
from langgraph.func import entrypoint, task
from langgraph.graph import MessagesState

from askonce.integrations.langgraph import NodeCache
from tests.integrations.langgraph.graphs import FULL, POLICY, chatting, graph_of


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
        "from tests.integrations.langgraph.graphs import graph_of\n"
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
