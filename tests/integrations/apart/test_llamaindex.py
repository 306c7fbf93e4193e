"""LlamaIndex: models over our transport, embeddings over our model."""

import asyncio
import pickle

import httpx
import numpy as np
import pytest
from llama_index.core import Document, MockEmbedding, VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai import OpenAI
from pydantic import PrivateAttr

import askonce
from askonce.integrations.llamaindex import CachedEmbedding

from ..canned import Provider, chat_answer, tool_call
from ..sections import run_section

pytest_plugins = ["tests.parts.fixtures"]

QUESTION = "Say hello in three words."


class Model(BaseEmbedding):
    """Real embeddings as one of LlamaIndex's models; it counts what it is asked."""

    instruction: str = ""
    api_key: str = ""
    dimensions: int | None = None
    _embed = PrivateAttr()
    _asked: list = PrivateAttr(default_factory=list)

    def __init__(self, embed, **fields):
        super().__init__(**{"model_name": "wordllama", "embed_batch_size": 3, **fields})
        self._embed = embed

    @classmethod
    def class_name(cls):
        return "Model"

    @property
    def asked(self):
        return self._asked

    def _vectors(self, texts):
        return self._embed(texts)[:, : self.dimensions].tolist()

    def _get_query_embedding(self, query):
        self._asked.append(("query", query))
        return self._vectors(["question: " + query])[0]

    async def _aget_query_embedding(self, query):
        return self._get_query_embedding(query)

    def _get_text_embedding(self, text):
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts):
        self._asked.append(texts)
        return self._vectors(texts)

    async def _aget_text_embeddings(self, texts):
        return self._get_text_embeddings(texts)


@pytest.fixture
def store():
    with askonce.open_store("memory://") as store:
        yield store


@pytest.fixture
def model(embedder):
    return Model(embedder)


def test_texts_are_embedded_once_in_order(model, store, embedder):
    cached = CachedEmbedding(model, store, embed_batch_size=100)
    cached.get_text_embedding_batch(["b", "a", "b"])
    found = cached.get_text_embedding_batch(["a", "c", "b", "c"])
    assert np.array_equal(found, embedder(["a", "c", "b", "c"]))
    assert cached.get_text_embedding("c") == found[1]
    assert model.asked == [["b", "a"], ["c"]]


async def test_one_colour_finds_what_the_other_stored(model, store):
    cached = CachedEmbedding(model, store)
    first = await cached.aget_text_embedding_batch(["a", "b"])
    assert cached.get_text_embedding_batch(["b", "a"]) == first[::-1]
    assert await cached.aget_text_embedding("a") == first[0]
    query = cached.get_query_embedding("a")
    assert await cached.aget_query_embedding("a") == query
    assert model.asked == [["a", "b"], ("query", "a")]


@pytest.mark.parametrize("workers", [None, 4])
async def test_order_is_right_with_workers(model, store, embedder, workers):
    cached = CachedEmbedding(model, store, embed_batch_size=2, num_workers=workers)
    texts = [f"text {number % 17}" for number in range(40)]
    await cached.aget_text_embedding_batch(texts[::5])
    found = await cached.aget_text_embedding_batch(texts)
    assert np.array_equal(found, embedder(texts))
    assert sum(map(len, model.asked)) == 17


def test_queries_are_not_texts(model, store):
    cached = CachedEmbedding(model, store)
    assert cached.get_query_embedding("a") != cached.get_text_embedding("a")


@pytest.mark.parametrize(
    "other", [{"model_name": "other"}, {"dimensions": 64}, {"instruction": "search: "}], ids=str
)
def test_models_do_not_share(model, store, embedder, other):
    CachedEmbedding(model, store).get_text_embedding("a")
    another = Model(embedder, **other)
    CachedEmbedding(another, store).get_text_embedding("a")
    assert another.asked == [["a"]]


def test_classes_do_not_share(model, store):
    # Not even two that say of themselves that their name is unknown.
    one = CachedEmbedding(MockEmbedding(embed_dim=3), store).get_text_embedding("a")
    model.model_name = "unknown"
    assert CachedEmbedding(model, store).get_text_embedding("a") != one
    assert len(CachedEmbedding(MockEmbedding(embed_dim=4), store).get_text_embedding("a")) == 4


def test_a_changed_setting_counts_at_once(model, store):
    cached = CachedEmbedding(model, store)
    assert len(cached.get_text_embedding("a")) == 256
    model.dimensions = 64
    assert len(cached.get_text_embedding("a")) == 64


def test_keys_and_batches_decide_nothing(model, store, embedder):
    CachedEmbedding(model, store).get_text_embedding("a")
    another = Model(embedder, api_key="k", embed_batch_size=7, num_workers=2)
    CachedEmbedding(another, store).get_text_embedding("a")
    assert another.asked == []


def test_an_index_and_its_queries(model, store):
    documents = [Document(text="Paris is in France."), Document(text="Rome is in Italy.")]
    found = []
    for _ in range(2):
        index = VectorStoreIndex.from_documents(documents, embed_model=CachedEmbedding(model, store))
        (node,) = index.as_retriever(similarity_top_k=1).retrieve("Where is Rome?")
        found.append(node.text)
    assert found == ["Rome is in Italy."] * 2
    assert model.asked == [
        ["Paris is in France.", "Rome is in Italy."],
        ("query", "Where is Rome?"),
    ]


def test_an_ingestion_pipeline(model, store):
    for _ in range(2):
        pipeline = IngestionPipeline(
            transformations=[SentenceSplitter(), CachedEmbedding(model, store)], disable_cache=True
        )
        (node,) = pipeline.run(documents=[Document(text="Paris is in France.")])
        assert len(node.embedding) == 256
    assert len(model.asked) == 1


def test_it_is_pickled_with_a_url(tmp_path):
    cached = CachedEmbedding(
        MockEmbedding(embed_dim=3), f"sqlite:///{tmp_path}/cache.db", namespace="n", ttl=60
    )
    copy = pickle.loads(pickle.dumps(cached))
    assert (copy.namespace, copy.ttl, copy.embed_batch_size) == ("n", 60, cached.embed_batch_size)
    assert copy.get_text_embedding("a") == cached.get_text_embedding("a")
    assert copy.to_dict()["embed_model"]["class_name"] == "MockEmbedding"
    copy.close()
    cached.close()


def test_bad_values_are_refused(model):
    with pytest.raises(askonce.InputError):
        CachedEmbedding(model, "nowhere")
    with pytest.raises(askonce.InputError):
        CachedEmbedding(model, "memory://", ttl=0)


def test_openais_embeddings(llm_server, store):
    inner = OpenAIEmbedding(model_name="m", api_base=llm_server.base_url, api_key="k")
    cached = CachedEmbedding(inner, store)
    before = llm_server.requests("/embeddings")
    first = cached.get_text_embedding_batch(["a", "b"])
    assert cached.get_text_embedding_batch(["b", "a"]) == first[::-1]
    assert llm_server.requests("/embeddings") == before + 1


@pytest.fixture
def llm(llm_server, store):
    made = OpenAI(
        "gpt-4o-mini",
        api_base=llm_server.base_url,
        api_key="k",
        temperature=0,
        max_tokens=100,
        http_client=askonce.http_client(store, library="httpx"),
        async_http_client=askonce.async_http_client(store, library="httpx"),
    )
    yield made
    made._http_client.close()
    asyncio.run(made._async_http_client.aclose())


def test_an_answer_is_asked_for_once(llm, llm_server):
    before = llm_server.requests()
    first = llm.complete(QUESTION).text
    assert llm.complete(QUESTION).text == first
    assert "".join(part.delta for part in llm.stream_complete(QUESTION)) == first
    assert llm.chat([ChatMessage(role="user", content=QUESTION)]).message.content == first
    assert llm_server.requests() == before + 1


def test_a_stream_is_asked_for_once(llm, llm_server):
    before = llm_server.requests()
    first = [part.delta for part in llm.stream_complete(QUESTION)]
    assert [part.delta for part in llm.stream_complete(QUESTION)] == first and len(first) > 1
    assert llm.complete(QUESTION).text == "".join(first)
    assert llm_server.requests() == before + 1


def test_in_the_other_colour(llm, llm_server):
    async def ask():
        first = (await llm.acomplete(QUESTION)).text
        parts = [part.delta async for part in await llm.astream_complete(QUESTION)]
        assert "".join(parts) == first
        await llm._async_http_client.aclose()
        return first

    before = llm_server.requests()
    first = asyncio.run(ask())
    assert llm.complete(QUESTION).text == first
    assert llm_server.requests() == before + 1


def test_tools_are_asked_for_once(tmp_path):
    provider = Provider(chat_answer(tool_call("count_people", {"name": "Paris"})))

    def count_people(name: str) -> int:
        """Count the people of a city."""
        return 2100000

    for _ in range(2):
        with provider.client(f"sqlite:///{tmp_path}/cache.db", library=httpx) as http:
            llm = OpenAI("gpt-4o-mini", api_base=provider.base_url, api_key="k", http_client=http)
            answer = llm.predict_and_call([FunctionTool.from_defaults(count_people)], "How many?")
            assert answer.response == "2100000"
    assert len(provider.received) == 1


def test_the_guide_runs(tmp_path, llm_server, monkeypatch):
    run_section("LlamaIndex", tmp_path, llm_server.base_url, monkeypatch)
