"""LangChain's `CacheBackedEmbeddings`, over any store."""

import asyncio
import dataclasses
import warnings
from collections.abc import Sequence
from typing import Any, Literal, Self, cast

from langchain_core.embeddings import Embeddings
from langchain_core.stores import BaseStore, ByteStore

from askonce.core import vectors
from askonce.core.store import Store
from askonce.embeddings import DEFAULT_BATCH_SIZE
from askonce.errors import InputError, InputTypeError
from askonce.integrations.langchain.adapter import as_store, holds_bytes
from askonce.integrations.langchain.embedding_store import (
    DOCUMENTS,
    QUERIES,
    EmbeddingStore,
)
from askonce.integrations.langchain.foreign_values import ForeignValues, VectorLists
from askonce.integrations.langchain.key_encoders import KeyEncoder, for_queries, key_maker

AnyStore = ByteStore | Store | str
"""A store of bytes: LangChain's, ours, or the URL of one."""

VectorStore = BaseStore[str, list[float]] | AnyStore
Vector = list[float]

_warned_about_sha1 = False


class CacheBackedEmbeddings(Embeddings):
    """Embed through a store: what was asked before, even by LangChain's own class, is not asked.

    Made by `from_bytes_store`. The constructor is for a store from text to list of floats, with
    the texts themselves as keys; given a store of bytes it does what `from_bytes_store` does.
    Attributes that are not found here are those of `underlying_embeddings`.

    At most `batch_size` texts, 100 if it is None, are asked for at once, and stored before more
    are asked for. Queries are only cached with a `query_embedding_store`.
    """

    def __init__(
        self,
        underlying_embeddings: Embeddings,
        document_embedding_store: VectorStore,
        *,
        batch_size: int | None = None,
        query_embedding_store: VectorStore | None = None,
    ) -> None:
        super().__init__()
        if batch_size is not None and batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; it must be at least 1, or None for 100")
        self.batch_size = batch_size
        self._documents = _kept_in(document_embedding_store, underlying_embeddings)
        self.document_embedding_store = _public(document_embedding_store, self._documents)
        self._queries: EmbeddingStore | None = None
        self.query_embedding_store: BaseStore[str, list[float]] | None = None
        if query_embedding_store is not None:
            self._queries = (
                _queries_beside(self._documents)
                if query_embedding_store is document_embedding_store
                else _queries_in(query_embedding_store, underlying_embeddings)
            )
            self.query_embedding_store = _public(query_embedding_store, self._queries)

    @property
    def underlying_embeddings(self) -> Embeddings:
        """Give the model that is asked; it may be replaced, and never gets another's vectors."""
        return self._documents.model

    @underlying_embeddings.setter
    def underlying_embeddings(self, model: Embeddings) -> None:
        self._documents = dataclasses.replace(self._documents, model=model)
        self.document_embedding_store = _public(self.document_embedding_store, self._documents)
        if self._queries is not None:
            self._queries = dataclasses.replace(self._queries, model=model)
            self.query_embedding_store = _public(self.query_embedding_store, self._queries)

    @classmethod
    def from_bytes_store(
        cls,
        underlying_embeddings: Embeddings,
        document_embedding_cache: AnyStore,
        *,
        namespace: str = "",
        batch_size: int | None = None,
        query_embedding_cache: bool | AnyStore = False,
        key_encoder: KeyEncoder | Literal["sha1", "blake2b", "sha256", "sha512"] = "sha1",
    ) -> Self:
        """Cache in a store of bytes: LangChain's, ours, or one named by a URL.

        `query_embedding_cache` is True to keep queries in the same store, under keys of their
        own, or the store for them. Raises InputError, a ValueError, for an unknown key encoder
        and for a namespace together with an encoder of your own.
        """
        name_keys = key_maker(key_encoder, namespace)
        if not namespace and isinstance(key_encoder, str):
            _warn_about_no_namespace(key_encoder, frames=2)
        documents = EmbeddingStore(
            ForeignValues(as_store(document_embedding_cache)),
            underlying_embeddings,
            namespace,
            DOCUMENTS,
            name_keys,
        )
        queries: EmbeddingStore | None
        if query_embedding_cache is False:
            queries = None
        elif query_embedding_cache is True or _is_same(
            query_embedding_cache, document_embedding_cache
        ):
            queries = _queries_beside(documents)
        else:
            queries = dataclasses.replace(
                documents, store=ForeignValues(as_store(query_embedding_cache)), kind=QUERIES
            )
        return cls(
            underlying_embeddings, documents, batch_size=batch_size, query_embedding_store=queries
        )

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed texts, in their order.

        Raises InputTypeError for anything but strings, AnswerError if the model's answer cannot
        be used, and whatever the model raises; finished batches stay stored.
        """
        ask = self.underlying_embeddings.embed_documents
        rows = self._documents.embed(texts, ask, self.batch_size or DEFAULT_BATCH_SIZE)
        return cast("list[Vector]", rows.tolist())

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed texts without blocking the event loop; see `embed_documents`."""
        ask = self.underlying_embeddings.aembed_documents
        rows = await self._documents.aembed(texts, ask, self.batch_size or DEFAULT_BATCH_SIZE)
        return await asyncio.to_thread(_lists, rows)

    def embed_query(self, text: str) -> list[float]:
        """Embed a query; see `embed_documents`."""

        def ask(texts: Sequence[str]) -> list[Any]:
            return [self.underlying_embeddings.embed_query(text) for text in texts]

        rows = (
            vectors.rows_of(ask(_single(text)), 1)
            if self._queries is None
            else self._queries.embed(_single(text), ask, 1)
        )
        return cast("Vector", rows[0].tolist())

    async def aembed_query(self, text: str) -> list[float]:
        """Embed a query without blocking the event loop; see `embed_documents`."""

        async def ask(texts: Sequence[str]) -> list[Any]:
            return [await self.underlying_embeddings.aembed_query(text) for text in texts]

        rows = (
            vectors.rows_of(await ask(_single(text)), 1)
            if self._queries is None
            else await self._queries.aembed(_single(text), ask, 1)
        )
        return cast("Vector", rows[0].tolist())

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in {"_documents", "underlying_embeddings"}:
            raise AttributeError(name)
        return getattr(self.underlying_embeddings, name)


def _kept_in(store: object, model: Embeddings) -> EmbeddingStore:
    if isinstance(store, EmbeddingStore):
        return store if store.model is model else dataclasses.replace(store, model=model)
    if holds_bytes(store):
        entries = ForeignValues(as_store(store))
        _warn_about_no_namespace("sha1", frames=3)
        return EmbeddingStore(entries, model, "", DOCUMENTS, key_maker("sha1", ""))
    if isinstance(store, BaseStore):
        return EmbeddingStore(VectorLists(store), model, "", DOCUMENTS, list)
    raise InputTypeError(
        f"a {type(store).__qualname__} is not a store; give a LangChain store, an askonce Store "
        "or a URL like 'sqlite:///cache.db'"
    )


def _queries_in(store: object, model: Embeddings) -> EmbeddingStore:
    kept = _kept_in(store, model)
    if isinstance(store, EmbeddingStore):
        return kept if kept.kind == QUERIES else _queries_beside(kept)
    return dataclasses.replace(kept, kind=QUERIES)


def _queries_beside(documents: EmbeddingStore) -> EmbeddingStore:
    """Keep queries in the store of documents, under keys that no document has."""
    name_keys = documents.name_keys
    if name_keys is None or isinstance(documents.store, VectorLists):
        # Where the text is the key, any key derived from it may be another text.
        return dataclasses.replace(documents, kind=QUERIES, name_keys=None)
    return dataclasses.replace(documents, kind=QUERIES, name_keys=for_queries(name_keys))


def _public(given: object, kept: EmbeddingStore) -> BaseStore[str, list[float]]:
    """Show the caller's own store where it is one from text to vector."""
    is_theirs = isinstance(kept.store, VectorLists) and not isinstance(given, EmbeddingStore)
    return cast("BaseStore[str, list[float]]", given) if is_theirs else kept


def _is_same(one: object, other: object) -> bool:
    return one is other or (isinstance(one, str) and one == other)


def _lists(rows: vectors.Vectors) -> list[list[float]]:
    # Row by row, so that other threads, the event loop's too, get their turn in between.
    return [row.tolist() for row in rows]


def _single(text: str) -> list[str]:
    if not isinstance(text, str):
        raise InputTypeError(f"the query is a {type(text).__qualname__}; give one string")
    return [text]


def _warn_about_no_namespace(key_encoder: str, *, frames: int) -> None:
    """Warn once a process, `frames` above; LangChain's tests know the flag by this name."""
    global _warned_about_sha1  # noqa: PLW0603
    if _warned_about_sha1:
        return
    _warned_about_sha1 = True
    digest = (
        " SHA-1, the default key_encoder, is no danger: entries that askonce writes are bound to "
        "a SHA-256 digest, so that texts whose keys collide never get each other's vectors."
        if key_encoder == "sha1"
        else ""
    )
    warnings.warn(
        "The cache of embeddings has no namespace. Pass namespace=<the model's name>: askonce "
        "keeps models apart without one, but in a cache that LangChain wrote it cannot tell "
        f"whose vectors they are.{digest}",
        UserWarning,
        stacklevel=frames + 1,
    )
