"""Where the vectors of one model's documents, or queries, are kept."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from langchain_core.embeddings import Embeddings
from langchain_core.stores import BaseStore

from askonce.core import entry, flow, vectors
from askonce.core.embedding import Terms, embed_flow, look_up_flow
from askonce.core.flow import Write
from askonce.core.inputs import Inputs
from askonce.core.keys import Subject
from askonce.core.store import Store
from askonce.embeddings import DEFAULT_BATCH_SIZE
from askonce.events import log
from askonce.integrations.fingerprint import fingerprint
from askonce.integrations.langchain.key_encoders import NameKeys

DOCUMENTS = "embedding"
QUERIES = "query"


def _never(texts: object) -> object:
    """Fill the place of a model where a flow only looks up."""
    raise AssertionError(f"a look-up asked for {texts!r}")


@dataclass(eq=False)
class EmbeddingStore(BaseStore[str, list[float]]):
    """Be a LangChain store from text to vector over a store of entries.

    Keys go by `name_keys`; where such a key is taken by another model's entry, or where
    `name_keys` is None, by the digest of model and text. `kind` is DOCUMENTS or QUERIES.
    A store that fails is one that has nothing.
    """

    store: Store
    model: Embeddings
    namespace: str
    kind: str
    name_keys: NameKeys | None
    _learned: dict[bytes, int] = field(default_factory=dict[bytes, int], init=False, repr=False)

    def embed(self, texts: Sequence[str], ask: Callable[[Any], Any], batch_size: int) -> Any:
        """Give the vectors of texts as rows, asking for those that are not here."""
        return self._run(embed_flow(*self._prepared(texts, batch_size)), ask)

    async def aembed(self, texts: Sequence[str], ask: Callable[[Any], Any], batch_size: int) -> Any:
        """Give the vectors of texts without blocking the event loop; see `embed`."""
        prepared = await asyncio.to_thread(self._prepared, texts, batch_size)
        return await self._arun(embed_flow(*prepared), ask)

    def mget(self, keys: Sequence[str]) -> list[list[float] | None]:
        found: list[list[float] | None] = self._run(self._get(keys))
        return found

    async def amget(self, keys: Sequence[str]) -> list[list[float] | None]:
        found: list[list[float] | None] = await self._arun(self._get(keys))
        return found

    def mset(self, key_value_pairs: Sequence[tuple[str, list[float]]]) -> None:
        self._run(self._set(dict(key_value_pairs)))

    async def amset(self, key_value_pairs: Sequence[tuple[str, list[float]]]) -> None:
        await self._arun(self._set(dict(key_value_pairs)))

    def mdelete(self, keys: Sequence[str]) -> None:
        self.store.delete(self._run(self._places(keys)))

    async def amdelete(self, keys: Sequence[str]) -> None:
        await self.store.adelete(await self._arun(self._places(keys)))

    def yield_keys(self, *, prefix: str | None = None) -> Iterator[str]:
        """Give the keys in the store, which are digests of the texts and not the texts."""
        yield from self.store.keys(prefix or "")

    async def ayield_keys(  # pyright: ignore[reportIncompatibleMethodOverride]  # a generator, as there
        self, *, prefix: str | None = None
    ) -> AsyncIterator[str]:
        """Give the keys in the store without blocking the event loop; see `yield_keys`."""
        async for key in self.store.akeys(prefix or ""):
            yield key

    def _prepared(
        self, texts: Sequence[str], batch_size: int = DEFAULT_BATCH_SIZE
    ) -> tuple[Inputs, Terms]:
        # Looked at anew for each call: a model's settings may be changed between two of them.
        model = fingerprint(self.model)
        subject = Subject(self.namespace, self.kind, model.model, model.parameters)
        terms = Terms(
            flights=self.store.flights,
            batch_size=batch_size,
            dimensions=None,
            now=flow.now(),
            learned=self._learned,
            beside=self.store.beside,
            declared=model.dimensions,
        )
        return Inputs.begin(texts, subject, self.name_keys), terms

    def _get(self, texts: Sequence[str]) -> flow.Flow:
        inputs, terms = self._prepared(texts)
        table = yield from look_up_flow(inputs, terms)
        there = table.good[inputs.positions]
        rows = iter(table.take(inputs.positions[there]).tolist())
        return [next(rows) if good else None for good in there.tolist()]

    def _set(self, pairs: Mapping[str, list[float]]) -> flow.Flow:
        inputs, terms = self._prepared(list(pairs))
        yield from look_up_flow(inputs, terms)
        rows = vectors.rows_of(list(pairs.values()), len(pairs)) if pairs else np.empty((0, 0))
        blobs = vectors.pack(rows, inputs.bindings, created=terms.now, expires=entry.NEVER)
        yield Write(dict(zip(inputs.keys, blobs, strict=True)))

    def _places(self, texts: Sequence[str]) -> flow.Flow:
        inputs, terms = self._prepared(texts)
        yield from look_up_flow(inputs, terms)
        return inputs.keys

    def _run(self, steps: flow.Flow, ask: Callable[[Any], Any] = _never) -> Any:
        return flow.run(steps, store=self.store, call=ask, observe=log)

    async def _arun(self, steps: flow.Flow, ask: Callable[[Any], Any] = _never) -> Any:
        return await flow.arun(steps, store=self.store, call=ask, observe=log)
