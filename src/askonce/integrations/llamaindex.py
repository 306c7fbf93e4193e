"""LlamaIndex's embeddings, asked for once."""

# LlamaIndex needs an OpenAI SDK of its own and so cannot be where the types are checked.
# pyright: reportMissingImports=false, reportUntypedBaseClass=false
# pyright: reportUnknownParameterType=false

from typing import Any

from askonce.core.store import Store
from askonce.embeddings import EmbeddingCache
from askonce.errors import MissingExtraError
from askonce.events import Observer, log
from askonce.integrations.fingerprint import fingerprint
from askonce.stores import open_store

try:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from pydantic import Field, PrivateAttr, SerializeAsAny
except ImportError as error:
    raise MissingExtraError(
        "llama-index-core", "llamaindex", "askonce.integrations.llamaindex"
    ) from error

__all__ = ["CachedEmbedding"]

_ENGINES = ("_query_engine", "_text_engine")
"""What LlamaIndex's OpenAIEmbedding really asks for is not always its `model_name`."""


class CachedEmbedding(BaseEmbedding):
    """Be an embedding model that asks another one for what is not stored.

        Settings.embed_model = CachedEmbedding(OpenAIEmbedding(), "sqlite:///cache.db")

    The model's class, name, dimensions and settings are part of every key, and queries are kept
    apart from texts. `store` is a URL or a Store; a Store that you opened is yours to close, and
    only a model with a URL can be pickled. `ttl` is in seconds. What else is given are fields of
    LlamaIndex's BaseEmbedding; batch size and workers are those of `embed_model` if left out.
    Raises InputError for values that cannot be used.
    """

    embed_model: SerializeAsAny[BaseEmbedding]
    store: Any = Field(exclude=True)
    namespace: str = ""
    ttl: float | None = None
    observe: Any = Field(default=log, exclude=True)
    _store: Store = PrivateAttr()

    def __init__(
        self,
        embed_model: BaseEmbedding,
        store: Store | str,
        *,
        namespace: str = "",
        ttl: float | None = None,
        observe: Observer = log,
        **fields: Any,
    ) -> None:
        for name in ("model_name", "embed_batch_size", "num_workers"):
            fields.setdefault(name, getattr(embed_model, name))
        super().__init__(
            embed_model=embed_model,
            store=store,
            namespace=namespace,
            ttl=ttl,
            observe=observe,
            **fields,
        )
        self._store = open_store(store)
        self._cache()  # raises for values that cannot be used

    @classmethod
    def class_name(cls) -> str:
        return "CachedEmbedding"

    def close(self) -> None:
        """Close the store if it was opened here, from a URL."""
        if self._store is not self.store:
            self._store.close()

    def _cache(self) -> EmbeddingCache:
        # Made anew for each call: a model's settings may be changed between two of them.
        model = self.embed_model
        found = fingerprint(model, _ENGINES)
        return EmbeddingCache(
            model.get_text_embedding_batch,
            aembed=model.aget_text_embedding_batch,
            embed_query=lambda texts: [model.get_query_embedding(text) for text in texts],
            aembed_query=self._ask_for_queries,
            model=found.model,
            parameters={**found.parameters, "class": model.class_name()},
            store=self._store,
            namespace=self.namespace,
            batch_size=model.embed_batch_size,
            ttl=self.ttl,
            observe=self.observe,
        )

    async def _ask_for_queries(self, texts: list[str]) -> list[list[float]]:
        return [await self.embed_model.aget_query_embedding(text) for text in texts]

    def _get_query_embedding(self, query: str) -> list[float]:
        vector: list[float] = self._cache().embed_query(query).tolist()
        return vector

    async def _aget_query_embedding(self, query: str) -> list[float]:
        vector: list[float] = (await self._cache().aembed_query(query)).tolist()
        return vector

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return (await self._aget_text_embeddings([text]))[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = self._cache().embed(texts).tolist()
        return vectors

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = (await self._cache().aembed(texts)).tolist()
        return vectors
