"""Graphs of one node."""

from typing import Any, TypedDict

from langchain_core.messages import AIMessage
from langgraph.graph import END, START, StateGraph
from langgraph.types import CachePolicy

from askonce.integrations.langgraph import node_key

POLICY = CachePolicy(key_func=node_key)


class State(TypedDict, total=False):
    x: Any
    y: Any


def graph_of(node, cache, *, state=State, policy=POLICY, name="node", **compiling):
    builder = StateGraph(state).add_node(name, node, cache_policy=policy)
    return builder.add_edge(START, name).add_edge(name, END).compile(cache=cache, **compiling)


def chatting(calls):
    def ask(state):
        calls.append(1)
        return {"messages": [AIMessage(f"answer to {state['messages'][-1].content}")]}

    return ask


FULL = (("ns", "node"), "key")
