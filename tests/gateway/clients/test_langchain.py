"""LangChain before a real model: with the gateway as without it, and asked once."""

import asyncio

import httpx2
import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

from tests.gateway.clients.sdks import TEXTS
from tests.gateway.comparing import MODEL, QUESTION
from tests.gateway.tool_provider import ARGUMENTS, OPENAI_TOOL, TOLD

pytest_plugins = ["tests.parts.fixtures", "tests.parts.tokens", "tests.gateway.scenes"]

LANGCHAIN_OWN = ["id"]
"""The id of a run of its own."""


def langchain_model(**more):
    return ChatOpenAI(model=MODEL, temperature=0, seed=1, max_tokens=100, **more)


@pytest.mark.parametrize("more", [{}, {"use_responses_api": True}], ids=["chat", "responses"])
@pytest.mark.parametrize("stream", [False, True])
def test_langchain_chat(compare, stream, more):
    def ask():
        model = ChatOpenAI(model=MODEL, temperature=0, max_tokens=100, **more)
        if stream:
            return [chunk.model_dump() for chunk in model.stream(QUESTION)]
        return model.invoke(QUESTION).model_dump()

    compare(ask, own=LANGCHAIN_OWN)


@pytest.mark.parametrize("stream", [False, True])
def test_langchain_async_chat(compare, stream):
    async def go():
        # LangChain's own clients outlive the loop that they were used in.
        async with httpx2.AsyncClient(trust_env=False) as http:
            model = langchain_model(http_async_client=http)
            if stream:
                return [chunk.model_dump() async for chunk in model.astream(QUESTION)]
            return (await model.ainvoke(QUESTION)).model_dump()

    compare(lambda: asyncio.run(go()), own=LANGCHAIN_OWN)


@pytest.mark.parametrize("stream", [False, True])
def test_langchain_tool_calls(compare_tools, stream):
    def ask():
        model = langchain_model().bind_tools([OPENAI_TOOL])
        if stream:
            return [chunk.model_dump() for chunk in model.stream("The weather?")]
        return model.invoke("The weather?").model_dump()

    compare_tools(ask, own=LANGCHAIN_OWN)


def test_langchain_tools_to_the_end(compare_tools):
    def ask():
        model = langchain_model().bind_tools([OPENAI_TOOL])
        question = HumanMessage("The weather?")
        calling = model.invoke([question])
        assert isinstance(calling, AIMessage)
        (call,) = calling.tool_calls
        assert call["args"] == ARGUMENTS
        result = ToolMessage("rain", tool_call_id=call["id"])
        return [model.invoke([question, calling, result]).content]

    assert compare_tools(ask, asks=2) == [TOLD]


@pytest.mark.parametrize("tokens", [True, False])
def test_langchain_embeddings(compare, table, tokens):
    def ask(texts=TEXTS[:2]):
        model = OpenAIEmbeddings(model="text-embedding-3-small", check_embedding_ctx_length=tokens)
        return [model.embed_documents(texts), model.embed_query(texts[0])]

    # The query is one of the documents.
    compare(ask)
    count, (vectors, _) = compare.asked_by(lambda: ask(TEXTS))
    assert (count, len(vectors)) == (1, 3)
