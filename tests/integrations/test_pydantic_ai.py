"""Pydantic AI: agents over our transport, embeddings over our model."""

import asyncio

import numpy as np
import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, Embedder
from pydantic_ai.embeddings import EmbeddingModel, EmbeddingResult
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import RequestUsage

import askonce
from askonce.integrations.pydantic_ai import CachedEmbeddingModel

from .canned import Provider, chat_answer, tool_call
from .sections import run_section

pytest_plugins = ["tests.parts.fixtures"]

SETTINGS = ModelSettings(temperature=0, max_tokens=100)
QUESTION = "Say hello in three words."


@pytest.fixture
async def http():
    async with askonce.async_http_client("memory://") as client:
        yield client


@pytest.fixture(params=["chat", "responses", "anthropic"])
def agent(request, http, llm_server):
    openai = OpenAIProvider(base_url=llm_server.base_url, api_key="k", http_client=http)
    if request.param == "chat":
        return Agent(OpenAIChatModel("m", provider=openai), model_settings=SETTINGS)
    if request.param == "responses":
        return Agent(OpenAIResponsesModel("m", provider=openai), model_settings=SETTINGS)
    address = llm_server.base_url.removesuffix("/v1")
    anthropic = AnthropicProvider(base_url=address, api_key="k", http_client=http)
    return Agent(AnthropicModel("m", provider=anthropic), model_settings=SETTINGS)


@pytest.fixture
def loop():
    """Be the loop of the thread, which Pydantic AI's sync calls use and leave open."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield loop
    loop.close()
    asyncio.set_event_loop(None)


async def streamed(agent, question):
    async with agent.run_stream(question) as run:
        return [text async for text in run.stream_text(delta=True, debounce_by=None)]


async def test_a_run_is_asked_for_once(agent, llm_server):
    before = llm_server.requests()
    first = await agent.run(QUESTION)
    second = await agent.run(QUESTION)
    assert first.output == second.output
    assert llm_server.requests() == before + 1


async def test_a_streamed_run_is_asked_for_once(agent, llm_server):
    before = llm_server.requests()
    first = await streamed(agent, QUESTION)
    second = await streamed(agent, QUESTION)
    assert first == second and len(first) > 1
    assert llm_server.requests() == before + 1


async def test_streamed_and_plain_runs_share(agent, llm_server):
    before = llm_server.requests()
    plain = await agent.run(QUESTION)
    assert "".join(await streamed(agent, QUESTION)) == plain.output
    assert llm_server.requests() == before + 1


def test_sync_runs(llm_server, tmp_path, loop):
    before = llm_server.requests()
    outputs = []
    for _ in range(2):
        http = askonce.async_http_client(f"sqlite:///{tmp_path}/cache.db")
        provider = OpenAIProvider(base_url=llm_server.base_url, api_key="k", http_client=http)
        agent = Agent(OpenAIChatModel("m", provider=provider), model_settings=SETTINGS)
        outputs.append(agent.run_sync(QUESTION).output)
        loop.run_until_complete(http.aclose())
    assert outputs[0] == outputs[1]
    assert llm_server.requests() == before + 1


class City(BaseModel):
    name: str
    people: int


async def run_with_tools(provider: Provider, store: str) -> object:
    """Let a canned model call a tool and then answer with a structured output."""
    async with provider.async_client(store) as http:
        openai = OpenAIProvider(base_url=provider.base_url, api_key="k", http_client=http)
        agent = Agent(OpenAIChatModel("m", provider=openai), output_type=City)

        @agent.tool_plain
        def count_people(name: str) -> int:
            return 2100000

        return (await agent.run("How many live in Paris?")).output


async def test_tools_and_structured_output_are_asked_for_once(tmp_path):
    provider = Provider(
        chat_answer(tool_call("count_people", {"name": "Paris"})),
        chat_answer(tool_call("final_result", {"name": "Paris", "people": 2100000})),
    )
    store = f"sqlite:///{tmp_path}/cache.db"
    first = await run_with_tools(provider, store)
    assert len(provider.received) == 2
    assert await run_with_tools(provider, store) == first == City(name="Paris", people=2100000)
    assert len(provider.received) == 2


class Model(EmbeddingModel):
    """Real embeddings as one of Pydantic AI's models; it counts what it is asked."""

    def __init__(self, embed, name="wordllama", base_url=None, settings=None):
        super().__init__(settings=settings)
        self._embed = embed
        self._name = name
        self._base_url = base_url
        self.asked = []

    model_name = property(lambda self: self._name)
    system = property(lambda self: "here")
    base_url = property(lambda self: self._base_url)

    async def embed(self, inputs, *, input_type, settings=None):
        texts, merged = self.prepare_embed(inputs, settings)
        self.asked.append(texts)
        prefix = "question: " if input_type == "query" else ""
        vectors = self._embed([prefix + text for text in texts])[:, : merged.get("dimensions")]
        return EmbeddingResult(
            embeddings=vectors.tolist(),
            inputs=texts,
            input_type=input_type,
            model_name=self._name,
            provider_name=self.system,
            usage=RequestUsage(input_tokens=sum(map(len, texts))),
        )


@pytest.fixture
def store():
    with askonce.open_store("memory://") as store:
        yield store


@pytest.fixture
def model(embedder):
    return Model(embedder)


async def test_texts_are_embedded_once_in_order(model, store, embedder):
    cached = Embedder(CachedEmbeddingModel(model, store))
    await cached.embed_documents(["b", "a", "b"])
    result = await cached.embed_documents(["a", "c", "b"])
    assert np.array_equal(result.embeddings, embedder(["a", "c", "b"]))
    assert result["c"] == result.embeddings[1]
    assert model.asked == [["b", "a"], ["c"]]
    assert result.usage.input_tokens == 1
    assert (await cached.embed_documents("a")).usage.input_tokens == 0


async def test_queries_are_not_documents(model, store):
    cached = Embedder(CachedEmbeddingModel(model, store))
    document = await cached.embed_documents("a")
    query = await cached.embed_query("a")
    assert document.embeddings != query.embeddings
    assert (await cached.embed_query("a")).embeddings == query.embeddings
    assert len(model.asked) == 2


@pytest.mark.parametrize(
    "other",
    [
        {"name": "other"},
        {"base_url": "http://elsewhere/v1"},
        {"settings": {"dimensions": 64}},
        {"settings": {"extra_headers": {"embedding-beta": "2"}}},
        {"settings": {"extra_body": {"truncate": "left"}}},
    ],
    ids=str,
)
async def test_models_do_not_share(model, store, embedder, other):
    await Embedder(CachedEmbeddingModel(model, store)).embed_documents("a")
    another = Model(embedder, **other)
    await Embedder(CachedEmbeddingModel(another, store)).embed_documents("a")
    assert another.asked == [["a"]]


async def test_settings_of_a_call_count_and_credentials_do_not(model, store):
    cached = Embedder(CachedEmbeddingModel(model, store))
    short = await cached.embed_documents("a", settings={"dimensions": 64})
    assert len(short.embeddings[0]) == 64
    assert len((await cached.embed_documents("a")).embeddings[0]) == 256
    for key in ("one", "two"):
        headers = {"Authorization": key, "X-Api-Key": key}
        await cached.embed_documents("a", settings={"extra_headers": headers})
    assert len(model.asked) == 2


def test_sync_too(model, store, loop):
    cached = Embedder(CachedEmbeddingModel(model, store))
    first = cached.embed_documents_sync("a")
    assert cached.embed_documents_sync("a").embeddings == first.embeddings
    assert len(model.asked) == 1


def test_bad_values_are_refused(model):
    with pytest.raises(askonce.InputError):
        CachedEmbeddingModel(model, "nowhere")
    with pytest.raises(askonce.InputError):
        CachedEmbeddingModel(model, "memory://", ttl=0)


def test_the_guide_runs(tmp_path, llm_server, monkeypatch):
    run_section("Pydantic AI", tmp_path, llm_server.base_url, monkeypatch)
