"""Pydantic AI before a real model: with the gateway as without it, and asked once."""

import asyncio
import contextlib
import json

import openai
import pytest
from pydantic_ai import Agent, Embedder
from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings

from tests.gateway.clients.sdks import TEXTS
from tests.gateway.comparing import MODEL, QUESTION, said
from tests.gateway.tool_provider import ARGUMENTS, TOLD

pytest_plugins = ["tests.parts.fixtures", "tests.gateway.scenes"]

AGENTS = {
    "chat": OpenAIChatModel,
    "responses": OpenAIResponsesModel,
    "anthropic": AnthropicModel,
}
PYDANTIC_OWN = ["timestamp", "run_id", "conversation_id"]


def agent_of(kind):
    settings = ModelSettings(temperature=0, max_tokens=100)
    return Agent(AGENTS[kind](MODEL), model_settings=settings)


@contextlib.asynccontextmanager
async def closing(agent):
    """Close the client that the model has made for itself."""
    async with agent:
        yield agent


@pytest.mark.parametrize("kind", AGENTS)
@pytest.mark.parametrize("stream", [False, True])
def test_pydantic_ai_chat(compare, kind, stream):
    async def go():
        async with closing(agent_of(kind)) as agent:
            if stream:
                async with agent.run_stream(QUESTION) as run:
                    parts = [text async for text in run.stream_text(delta=True, debounce_by=None)]
                    return [parts, messages_of(run)]
            run = await agent.run(QUESTION)
            return [run.output, messages_of(run)]

    compare(lambda: asyncio.run(go()), own=PYDANTIC_OWN)


def messages_of(run):
    whole = said(json.loads(run.all_messages_json()), PYDANTIC_OWN)
    return said(whole, {"provider_response_id", "provider_details", "url", "provider_url"})


@pytest.mark.parametrize("kind", ["chat", "anthropic"])
@pytest.mark.parametrize("stream", [False, True])
def test_pydantic_ai_tools_to_the_end(compare_tools, kind, stream):
    async def go():
        async with closing(agent_of(kind)) as agent:
            called = []

            @agent.tool_plain
            def forecast(city: str, days: int) -> str:
                called.append({"city": city, "days": days})
                return "rain"

            if stream:
                async with agent.run_stream("The weather?") as run:
                    return [await run.get_output(), called]
            return [(await agent.run("The weather?")).output, called]

    output, called = compare_tools(lambda: asyncio.run(go()), asks=2)
    assert called == [ARGUMENTS]
    assert output.replace(" ", "") == TOLD.replace(" ", "")


def test_pydantic_ai_embeddings(compare):
    async def go():
        async with openai.AsyncOpenAI() as client:
            model = OpenAIEmbeddingModel(
                "text-embedding-3-small", provider=OpenAIProvider(openai_client=client)
            )
            found = await Embedder(model).embed_documents(TEXTS)
            return [list(map(list, found.embeddings))]

    compare(lambda: asyncio.run(go()))
