"""Haystack's embedders, asked for once."""

import hashlib
import inspect
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

from askonce.core.store import Store
from askonce.core.vectors import Vectors
from askonce.embeddings import EmbeddingCache
from askonce.errors import InputError, InputTypeError, MissingExtraError
from askonce.events import Observer, log
from askonce.integrations.fingerprint import fingerprint
from askonce.stores import open_store

try:
    from haystack import Document, component, default_from_dict, default_to_dict
    from haystack.core.serialization import component_to_dict
except ImportError as error:
    raise MissingExtraError("haystack-ai", "haystack", "askonce.integrations.haystack") from error

__all__ = ["CachedDocumentEmbedder", "CachedTextEmbedder"]


class _CachedEmbedder:
    def __init__(
        self,
        embedder: Any,
        store: Store | str,
        *,
        namespace: str = "",
        ttl: float | None = None,
        observe: Observer = log,
    ) -> None:
        self.embedder = embedder
        self.store = store
        self.namespace = namespace
        self.ttl = ttl
        self._observe = observe
        self._opened: Store | None = None
        self._cache(_one_by_one, {})  # raises for values that cannot be used

    def warm_up(self) -> None:
        if hasattr(self.embedder, "warm_up"):
            self.embedder.warm_up()

    async def warm_up_async(self) -> None:
        if hasattr(self.embedder, "warm_up_async"):
            await self.embedder.warm_up_async()
        else:
            self.warm_up()

    def close(self) -> None:
        if hasattr(self.embedder, "close"):
            self.embedder.close()
        opened, self._opened = self._opened, None
        if opened is not None and opened is not self.store:
            opened.close()

    async def close_async(self) -> None:
        if hasattr(self.embedder, "close_async"):
            await self.embedder.close_async()
        self.close()

    def to_dict(self) -> dict[str, Any]:
        if not isinstance(self.store, str):
            raise InputError("a component with an open store cannot be serialized; give its URL")
        return default_to_dict(
            self,
            embedder=component_to_dict(self.embedder, "embedder"),
            store=self.store,
            namespace=self.namespace,
            ttl=self.ttl,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        return default_from_dict(cls, data)

    def _cache(
        self,
        calls: Callable[[list[str]], list[dict[str, Any]]],
        meta: dict[str, Any],
        count: int = 1,
    ) -> EmbeddingCache:
        """Make the cache of one call, which asks the embedder by `calls` and gathers its `meta`."""

        def ask(texts: list[str]) -> list[Any]:
            answers = [self.embedder.run(**arguments) for arguments in calls(texts)]
            return _vectors(answers, meta)

        async def aask(texts: list[str]) -> list[Any]:
            answers = [await self.embedder.run_async(**arguments) for arguments in calls(texts)]
            return _vectors(answers, meta)

        if self._opened is None:
            self._opened = open_store(self.store)
        kind = type(self.embedder)
        found = fingerprint(self.embedder, inspect.signature(kind.__init__).parameters)
        return EmbeddingCache(
            ask,
            aembed=aask if hasattr(self.embedder, "run_async") else None,
            model=found.model,
            parameters={
                **found.parameters,
                "class": f"{kind.__module__}.{kind.__qualname__}",
                "input": type(self).__name__,
            },
            store=self._opened,
            namespace=self.namespace,
            batch_size=count,
            ttl=self.ttl,
            observe=self._observe,
        )


@component
class CachedTextEmbedder(_CachedEmbedder):
    """Be a text embedder that asks another one for what is not stored.

    The embedder's class, model and constructor's arguments, less credentials and the like, are
    part of every key. `store` is a URL or a Store; a Store that you opened is yours to close, and
    only a component with a URL can be serialized. `ttl` is in seconds. Raises InputError for
    values that cannot be used.
    """

    @component.output_types(embedding=list[float], meta=dict[str, Any])
    def run(self, text: str) -> dict[str, Any]:
        """Embed a text; `meta` is empty unless the embedder was asked.

        Raises InputTypeError for anything but a string, and whatever the embedder raises.
        """
        meta: dict[str, Any] = {}
        vector = self._cache(_one_by_one, meta).embed_query(text)
        return {"embedding": vector.tolist(), "meta": meta}

    @component.output_types(embedding=list[float], meta=dict[str, Any])
    async def run_async(self, text: str) -> dict[str, Any]:
        """Embed a text without blocking the event loop; see `run`."""
        meta: dict[str, Any] = {}
        vector = await self._cache(_one_by_one, meta).aembed_query(text)
        return {"embedding": vector.tolist(), "meta": meta}


@component
class CachedDocumentEmbedder(_CachedEmbedder):
    """Be a document embedder that asks another one for what is not stored.

    Documents are told apart by content, blob and metadata; of an embedder that says which metadata
    it embeds (`meta_fields_to_embed`), only by that. For the rest see CachedTextEmbedder.
    """

    @component.output_types(documents=list[Document], meta=dict[str, Any])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """Give copies of the documents with embeddings; `meta` is empty if nothing was asked.

        Raises InputTypeError for anything but documents, AnswerError if the embedder gave no
        embedding for one, and whatever the embedder raises.
        """
        contents = self._contents(documents)
        meta: dict[str, Any] = {}
        cache = self._cache(_all_at_once(contents, documents), meta, len(contents) or 1)
        return _embedded(documents, cache.embed(contents), meta)

    @component.output_types(documents=list[Document], meta=dict[str, Any])
    async def run_async(self, documents: list[Document]) -> dict[str, Any]:
        """Give copies of the documents with embeddings without blocking; see `run`."""
        contents = self._contents(documents)
        meta: dict[str, Any] = {}
        cache = self._cache(_all_at_once(contents, documents), meta, len(contents) or 1)
        return _embedded(documents, await cache.aembed(contents), meta)

    def _contents(self, documents: list[Document]) -> list[str]:
        """Write what decides each document's vector as one string."""
        if not all(isinstance(document, Document) for document in documents):
            raise InputTypeError("give a list of Documents; CachedTextEmbedder is for strings")
        fields = getattr(self.embedder, "meta_fields_to_embed", None)
        return [_content(document, fields) for document in documents]


def _content(document: Document, fields: Collection[str] | None) -> str:
    blob = document.blob
    meta = document.meta
    deciding = (
        document.content,
        {name: meta[name] for name in (meta if fields is None else fields) if name in meta},
        None if blob is None else [hashlib.sha256(blob.data).hexdigest(), blob.mime_type],
    )
    return json.dumps(deciding, sort_keys=True, default=str)


def _one_by_one(texts: list[str]) -> list[dict[str, Any]]:
    return [{"text": text} for text in texts]


def _all_at_once(
    contents: Sequence[str], documents: Sequence[Document]
) -> Callable[[list[str]], list[dict[str, Any]]]:
    by_content = dict(zip(contents, documents, strict=True))
    return lambda missing: [{"documents": [by_content[content] for content in missing]}]


def _vectors(answers: Sequence[Mapping[str, Any]], meta: dict[str, Any]) -> list[Any]:
    for answer in answers:
        meta.update(answer.get("meta", {}))
    return [
        vector
        for answer in answers
        for vector in (
            [document.embedding for document in answer["documents"]]
            if "documents" in answer
            else [answer["embedding"]]
        )
    ]


def _embedded(documents: list[Document], vectors: Vectors, meta: dict[str, Any]) -> dict[str, Any]:
    pairs = zip(documents, vectors.tolist(), strict=True)
    return {
        "documents": [replace(document, embedding=vector) for document, vector in pairs],
        "meta": meta,
    }
