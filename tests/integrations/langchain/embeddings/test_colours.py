"""Async calls stay async down to the model and the store."""

import asyncio
import json
import threading

from langchain_classic.storage import LocalFileStore as LangChainLocalFileStore
from langchain_core.stores import InMemoryByteStore as LangChainInMemoryByteStore

import askonce.integrations.langchain.embeddings as wrapper
from tests.integrations.langchain.embedding_models import cached


async def test_nothing_is_decoded_on_the_event_loop(tmp_path, model, monkeypatch):
    texts = [str(number) for number in range(5)]
    classic = LangChainLocalFileStore(tmp_path)
    cache = cached(model, classic)
    keys = cache.document_embedding_store.name_keys(texts)
    classic.mset([(key, json.dumps(model.vector(t)).encode()) for key, t in zip(keys, texts)])
    seen = []
    loads, lists = json.loads, wrapper._lists

    def noting(function):
        def call(*arguments):
            seen.append(threading.get_ident())
            return function(*arguments)

        return call

    monkeypatch.setattr(json, "loads", noting(loads))
    monkeypatch.setattr(wrapper, "_lists", noting(lists))
    assert await cache.aembed_documents(texts) == [model.vector(text) for text in texts]
    assert len(seen) == len(texts) + 1
    assert threading.get_ident() not in seen


class ColouredStore(LangChainInMemoryByteStore):
    """Note which colour of verb is used."""

    def __init__(self):
        super().__init__()
        self.verbs = []

    def mget(self, keys):
        self.verbs.append("mget")
        return super().mget(keys)

    def mset(self, pairs):
        self.verbs.append("mset")
        super().mset(pairs)

    async def amget(self, keys):
        self.verbs.append("amget")
        return LangChainInMemoryByteStore.mget(self, keys)

    async def amset(self, pairs):
        self.verbs.append("amset")
        LangChainInMemoryByteStore.mset(self, pairs)


async def test_async_calls_use_the_async_verbs_of_model_and_store(model):
    store = ColouredStore()
    cache = cached(model, store, query_embedding_cache=True)
    await cache.aembed_documents(["a"])
    await cache.aembed_query("a")
    assert set(store.verbs) == {"amget", "amset"}
    assert model.colours == ["async", "async"]
    store.verbs.clear()
    await asyncio.to_thread(cache.embed_documents, ["b"])
    assert set(store.verbs) == {"mget", "mset"}
