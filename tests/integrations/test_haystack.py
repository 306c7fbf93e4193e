"""Haystack: embedders over our components, generators over our transport."""

import os

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"

from dataclasses import replace

import numpy as np
import openai
import pytest
from haystack import Document, Pipeline, component
from haystack.components.embedders import (
    MockDocumentEmbedder,
    MockTextEmbedder,
)
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ByteStream, ChatMessage
from haystack.utils import Secret

import askonce
from askonce.integrations.haystack import CachedDocumentEmbedder, CachedTextEmbedder

from .canned import Provider, chat_answer, tool_call
from .sections import run_section

pytest_plugins = ["tests.parts.fixtures"]

QUESTION = [ChatMessage.from_user("Say hello in three words.")]


@component
class TextEmbedder:
    """Real embeddings of texts; it counts what it is asked."""

    def __init__(self, embed, model: str = "wordllama", prefix: str = ""):
        self.embed, self.model, self.prefix = embed, model, prefix
        self.asked = []

    @component.output_types(embedding=list[float], meta=dict)
    def run(self, text: str):
        self.asked.append(text)
        return {
            "embedding": self.embed([self.prefix + text])[0].tolist(),
            "meta": {"model": self.model},
        }


@component
class DocumentEmbedder:
    """Real embeddings of documents; it counts what it is asked."""

    def __init__(self, embed, model: str = "wordllama", separator: str = "\n", fields=None):
        self.embed, self.model, self.separator = embed, model, separator
        if fields is not None:
            self.meta_fields_to_embed = fields
        self.asked = []

    @component.output_types(documents=list[Document], meta=dict)
    def run(self, documents: list[Document]):
        self.asked.append([document.content for document in documents])
        return {
            "documents": [
                replace(document, embedding=self.embed([document.content])[0].tolist())
                for document in documents
            ],
            "meta": {"model": self.model},
        }


@component
class AsyncDocumentEmbedder(DocumentEmbedder):
    @component.output_types(documents=list[Document], meta=dict)
    def run(self, documents: list[Document]):
        raise AssertionError("the async embedder was asked in a blocking way")

    @component.output_types(documents=list[Document], meta=dict)
    async def run_async(self, documents: list[Document]):
        return DocumentEmbedder.run(self, documents)


@pytest.fixture
def store():
    with askonce.open_store("memory://") as store:
        yield store


def documents(*contents, **meta):
    return [Document(content=content, meta=meta) for content in contents]


def test_a_text_is_embedded_once(embedder, store):
    inner = TextEmbedder(embedder)
    cached = CachedTextEmbedder(inner, store)
    first = cached.run(text="a")
    second = cached.run(text="a")
    assert first["embedding"] == second["embedding"] == embedder(["a"])[0].tolist()
    assert (first["meta"], second["meta"]) == ({"model": "wordllama"}, {})
    assert inner.asked == ["a"]


async def test_a_text_is_embedded_once_in_either_colour(embedder, store):
    inner = TextEmbedder(embedder)
    cached = CachedTextEmbedder(inner, store)
    assert (await cached.run_async(text="a"))["meta"]
    assert cached.run(text="a")["meta"] == {}
    assert inner.asked == ["a"]


def test_documents_are_embedded_once_in_order(embedder, store):
    inner = DocumentEmbedder(embedder)
    cached = CachedDocumentEmbedder(inner, store)
    cached.run(documents=documents("b", "a", "b"))
    given = documents("a", "c", "b")
    answer = cached.run(documents=given)
    found = [document.embedding for document in answer["documents"]]
    assert np.array_equal(found, embedder(["a", "c", "b"]))
    assert [document.id for document in answer["documents"]] == [one.id for one in given]
    assert all(document.embedding is None for document in given)
    assert inner.asked == [["b", "a"], ["c"]]
    assert cached.run(documents=[]) == {"documents": [], "meta": {}}


async def test_documents_in_either_colour(embedder, store):
    inner = AsyncDocumentEmbedder(embedder)
    cached = CachedDocumentEmbedder(inner, store)
    first = await cached.run_async(documents=documents("a"))
    second = cached.run(documents=documents("a"))
    assert first["documents"] == second["documents"]
    assert inner.asked == [["a"]]


def test_the_same_text_is_another_question_with_other_metadata(embedder, store):
    inner = DocumentEmbedder(embedder)
    cached = CachedDocumentEmbedder(inner, store)
    cached.run(documents=documents("a", title="one"))
    cached.run(documents=documents("a", title="two"))
    cached.run(documents=[Document(content="a", blob=ByteStream(b"x"))])
    cached.run(documents=[Document(content="a", blob=ByteStream(b"y"))])
    assert inner.asked == [["a"]] * 4


def test_metadata_that_is_not_embedded_does_not_count(embedder, store):
    inner = DocumentEmbedder(embedder, fields=["title"])
    cached = CachedDocumentEmbedder(inner, store)
    cached.run(documents=documents("a", title="one", page=1))
    again = cached.run(documents=documents("a", title="one", page=2))
    assert again["documents"][0].meta == {"title": "one", "page": 2}
    cached.run(documents=documents("a", title="two", page=2))
    assert inner.asked == [["a"]] * 2


@pytest.mark.parametrize("other", [{"model": "other"}, {"separator": " "}], ids=str)
def test_embedders_do_not_share(embedder, store, other):
    CachedDocumentEmbedder(DocumentEmbedder(embedder), store).run(documents=documents("a"))
    another = DocumentEmbedder(embedder, **other)
    CachedDocumentEmbedder(another, store).run(documents=documents("a"))
    assert another.asked == [["a"]]


def test_a_text_is_no_document(embedder, store):
    CachedDocumentEmbedder(DocumentEmbedder(embedder), store).run(documents=documents("a"))
    inner = TextEmbedder(embedder)
    CachedTextEmbedder(inner, store).run(text="a")
    assert inner.asked == ["a"]


def test_what_has_no_embedding_is_not_kept(store):
    @component
    class Failing:
        @component.output_types(documents=list[Document], meta=dict)
        def run(self, documents: list[Document]):
            return {"documents": documents, "meta": {}}

    with pytest.raises(askonce.AnswerError):
        CachedDocumentEmbedder(Failing(), store).run(documents=documents("a"))
    assert not list(store.keys())


def test_bad_values_are_refused(embedder, store):
    inner = TextEmbedder(embedder)
    with pytest.raises(askonce.InputError):
        CachedTextEmbedder(inner, "nowhere")
    with pytest.raises(askonce.InputError):
        CachedTextEmbedder(inner, store, ttl=0)
    with pytest.raises(askonce.InputTypeError):
        CachedTextEmbedder(inner, store).run(text=1)
    with pytest.raises(askonce.InputTypeError):
        CachedDocumentEmbedder(inner, store).run(documents="a")


def pipeline(url):
    made = Pipeline()
    made.add_component("text", CachedTextEmbedder(MockTextEmbedder(dimension=4), url, ttl=60))
    inner = MockDocumentEmbedder(dimension=4)
    made.add_component("documents", CachedDocumentEmbedder(inner, url, namespace="mine"))
    return made


def test_a_pipeline_can_be_written_down(tmp_path):
    url = f"sqlite:///{tmp_path}/cache.db"
    data = {"text": {"text": "a"}, "documents": {"documents": documents("a")}}
    first = pipeline(url)
    asked = first.run(data)
    first.close()
    copy = Pipeline.loads(
        pipeline(url).dumps(), allowed_modules=["askonce.integrations.haystack"]
    )
    assert copy.get_component("text").ttl == 60
    found = copy.run(data)
    assert found["text"]["embedding"] == asked["text"]["embedding"]
    assert found["documents"]["documents"] == asked["documents"]["documents"]
    assert asked["text"]["meta"] and not found["text"]["meta"]
    copy.close()
    assert copy.run(data)["text"] == found["text"]  # what was closed opens again
    copy.close()


def test_an_open_store_cannot_be_written_down(store):
    with pytest.raises(askonce.InputError, match="URL"):
        CachedTextEmbedder(MockTextEmbedder(), store).to_dict()


async def test_a_pipeline_closes_in_either_colour(tmp_path):
    made = pipeline(f"sqlite:///{tmp_path}/cache.db")
    await made.warm_up_async()
    await made.close_async()


def test_no_credential_decides(embedder, store):
    @component
    class WithKey(TextEmbedder):
        def __init__(self, embed, api_key):
            TextEmbedder.__init__(self, embed)
            self.api_key = api_key

    first, second = (WithKey(embedder, Secret.from_token(key)) for key in ("one", "two"))
    CachedTextEmbedder(first, store).run(text="a")
    CachedTextEmbedder(second, store).run(text="a")
    assert (first.asked, second.asked) == (["a"], [])


def generator(llm_server, **settings):
    return OpenAIChatGenerator(
        api_key=Secret.from_token("k"),
        model="m",
        api_base_url=llm_server.base_url,
        generation_kwargs={"temperature": 0, "max_tokens": 100},
        **settings,
    )


def test_a_generator_asks_once(llm_server):
    transport = askonce.transport("memory://", library="httpx")
    asking = generator(llm_server, http_client_kwargs={"transport": transport})
    before = llm_server.requests()
    first = asking.run(QUESTION)["replies"][0].text
    chunks = []
    streamed = asking.run(QUESTION, streaming_callback=chunks.append)["replies"][0].text
    assert first == streamed and len(chunks) > 1
    assert llm_server.requests() == before + 1
    asking.close()


async def test_a_generator_asks_once_in_the_other_colour(llm_server):
    transport = askonce.async_transport("memory://", library="httpx")
    asking = generator(llm_server, http_client_kwargs={"transport": transport})
    before = llm_server.requests()
    chunks = []

    async def take(chunk):
        chunks.append(chunk)

    streamed = (await asking.run_async(QUESTION, streaming_callback=take))["replies"][0].text
    plain = (await asking.run_async(QUESTION))["replies"][0].text
    assert plain == streamed and len(chunks) > 1
    assert llm_server.requests() == before + 1
    await asking.close_async()


async def test_one_generator_in_both_colours(llm_server):
    store = askonce.open_store("memory://")
    asking = generator(llm_server)
    access = {"base_url": llm_server.base_url, "api_key": "k"}
    asking.client = openai.OpenAI(http_client=askonce.http_client(store), **access)
    asking.async_client = openai.AsyncOpenAI(http_client=askonce.async_http_client(store), **access)
    before = llm_server.requests()
    first = asking.run(QUESTION)["replies"][0].text
    assert (await asking.run_async(QUESTION))["replies"][0].text == first
    assert llm_server.requests() == before + 1
    asking.close()
    await asking.close_async()


def test_tools_are_asked_for_once(tmp_path):
    provider = Provider(chat_answer(tool_call("count_people", {"name": "Paris"})))
    tool = {
        "type": "function",
        "function": {"name": "count_people", "parameters": {"type": "object", "properties": {}}},
    }
    for _ in range(2):
        asking = OpenAIChatGenerator(
            api_key=Secret.from_token("k"), model="m", generation_kwargs={"tools": [tool]}
        )
        asking.client = openai.OpenAI(
            base_url=provider.base_url,
            api_key="k",
            http_client=provider.client(f"sqlite:///{tmp_path}/cache.db"),
        )
        (reply,) = asking.run(QUESTION)["replies"]
        assert reply.tool_call.arguments == {"name": "Paris"}
        asking.close()
    assert len(provider.received) == 1


def test_the_guide_runs(tmp_path, llm_server, monkeypatch):
    run_section("Haystack", tmp_path, llm_server.base_url, monkeypatch)
