"""L1: messages, whose ids are drawn at random."""

import uuid

import pytest
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.message import REMOVE_ALL_MESSAGES
from langgraph.types import CachePolicy

from askonce.integrations.langgraph import NodeCache, node_key
from tests.integrations.langgraph.graphs import chatting, graph_of


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
