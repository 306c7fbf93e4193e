"""Embeddings that are asked for once."""

import functools
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from askonce.core import codecs, colours, flow, policy
from askonce.core.embedding import (
    DEFAULT_WAIT,
    Terms,
    embed_flow,
    look_up_flow,
)
from askonce.core.inputs import Inputs, refuse_one_string
from askonce.core.keys import Identity, Subject, namespace_prefix
from askonce.core.store import Store
from askonce.core.vectors import Vectors
from askonce.errors import InputError, InputTypeError
from askonce.events import Observer, log
from askonce.lookahead import ain_order, in_order
from askonce.stores import open_store

DEFAULT_BATCH_SIZE = 100


class EmbeddingCache:
    """Embed texts through a store: what was asked before is never asked again.

    `embed` is any callable, sync or async, from a list of strings to as many vectors (lists or
    numpy arrays). `model` names what it asks, `namespace` is a hard partition, `parameters` is
    whatever else decides its vectors. `store` is a URL or a Store; a Store that you opened is
    yours to close. `embed_query` is for models that embed queries differently from documents.
    `batch_size` texts at most are asked for at once and stored before more are asked for.
    `ttl` is in seconds. `codec` "float16" and "int8" keep vectors in half and a quarter of the
    space, not to the last bit; answers are then what was kept, also the first time. Raises
    InputError for values that cannot be used.
    """

    def __init__(
        self,
        embed: Callable[[list[str]], Any],
        *,
        model: str,
        store: Store | str,
        namespace: str = "",
        dimensions: int | None = None,
        batch_size: int = DEFAULT_BATCH_SIZE,
        embed_query: Callable[[list[str]], Any] | None = None,
        aembed: Callable[[list[str]], Any] | None = None,
        aembed_query: Callable[[list[str]], Any] | None = None,
        parameters: Identity | None = None,
        ttl: float | None = None,
        codec: codecs.Codec = "lossless",
        wait: float = DEFAULT_WAIT,
        observe: Observer = log,
    ) -> None:
        if not isinstance(model, str) or not model:
            raise InputError("model is empty; name the model that embed() asks")
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; it must be at least 1")
        if dimensions is not None and dimensions < 1:
            raise InputError(f"dimensions is {dimensions}; it must be at least 1")
        if codec != "lossless" and codec not in codecs.LOSSY:
            raise InputError(
                f"codec is {codec!r}; it must be 'lossless', {' or '.join(map(repr, codecs.LOSSY))}"
            )
        self.model = model
        self.namespace = namespace
        self.dimensions = dimensions
        self.batch_size = batch_size
        self.ttl = policy.check_ttl(ttl)
        self.codec: codecs.Codec = codec
        self.wait = wait
        self._owns_store = not isinstance(store, Store)
        self.store = open_store(store)
        self._observe = observe
        self._learned: dict[bytes, int] = {}
        own = dict(parameters or {})
        if dimensions is not None:
            own["dimensions"] = dimensions
        if codec != "lossless":
            own["askonce.codec"] = codec
        document = Subject(namespace, "embedding", model, own)
        query = Subject(namespace, "embedding", model, {**own, "input": "query"})
        self._documents = (document, _both(embed, aembed))
        self._queries = (
            (query, _both(embed_query, aembed_query)) if embed_query else self._documents
        )

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Embed documents: an array of shape (len(texts), dimensions), in the order of the texts.

        float32, or float64 if that is what it takes to keep the model's numbers to the last bit.
        Raises InputTypeError for anything but strings, AnswerError if the model's answer cannot
        be used, and whatever the model raises; finished batches stay stored.
        """
        return self._embed(texts)

    async def aembed(self, texts: Sequence[str]) -> Vectors:
        """Embed documents without blocking the event loop; see `embed`."""
        return await self._aembed(texts)

    def embed_iter(
        self, texts: Iterable[str], *, window: int = 1024, at_once: int = 2
    ) -> Iterator[Vectors]:
        """Embed any number of documents: arrays of up to `window` vectors, in order.

        Takes the texts as they come and holds at most `at_once` + 1 windows in memory; while one
        is used, others are read, asked for and stored. Raises what `embed` raises, in its turn.
        """
        refuse_one_string(texts)
        # The cores have work where windows are embedded at once.
        embed = functools.partial(self._embed, beside=False)
        return in_order(embed, texts, size=window, at_once=at_once)

    def aembed_iter(
        self, texts: Iterable[str], *, window: int = 1024, at_once: int = 2
    ) -> AsyncIterator[Vectors]:
        """Embed any number of documents without blocking the event loop; see `embed_iter`."""
        refuse_one_string(texts)
        aembed = functools.partial(self._aembed, beside=False)
        return ain_order(aembed, texts, size=window, at_once=at_once)

    def embed_query(self, text: str) -> Vectors:
        """Embed one query: an array of shape (dimensions,); see `embed`."""
        subject, (call, _) = self._queries
        rows: Vectors = self._run(self._flow(_single(text), subject), call)
        vector: Vectors = rows[0]
        return vector

    async def aembed_query(self, text: str) -> Vectors:
        """Embed one query without blocking the event loop; see `embed_query`."""
        subject, (_, call) = self._queries
        rows: Vectors = await self._arun(self._flow(_single(text), subject), call)
        vector: Vectors = rows[0]
        return vector

    def find(self, texts: Sequence[str]) -> tuple[NDArray[np.bool_], Vectors]:
        """Look documents up without asking: which are stored, and the vectors of those, in order.

        Of shapes (len(texts),) and (number stored, dimensions). Raises InputTypeError.
        """
        subject, (call, _) = self._documents
        inputs = self._inputs(texts, subject)
        table = self._run(look_up_flow(inputs, self._terms()), call)
        found = table.good[inputs.positions]
        return found, table.take(inputs.positions[found])

    def clear(self) -> int:
        """Delete every entry of this namespace and tell how many there were."""
        return self.store.clear(namespace_prefix(self.namespace))

    async def aclear(self) -> int:
        """Clear without blocking the event loop."""
        return await self.store.aclear(namespace_prefix(self.namespace))

    def close(self) -> None:
        """Close the store if it was opened here, from a URL."""
        if self._owns_store:
            self.store.close()

    def _embed(self, texts: Sequence[str], *, beside: bool = True) -> Vectors:
        subject, (call, _) = self._documents
        rows: Vectors = self._run(self._flow(texts, subject, beside=beside), call)
        return rows

    async def _aembed(self, texts: Sequence[str], *, beside: bool = True) -> Vectors:
        subject, (_, call) = self._documents
        return await self._arun(self._flow(texts, subject, beside=beside), call)

    def _flow(self, texts: Sequence[str], subject: Subject, *, beside: bool = True) -> flow.Flow:
        return embed_flow(self._inputs(texts, subject), self._terms(beside=beside))

    def _terms(self, *, beside: bool = True) -> Terms:
        return Terms(
            flights=self.store.flights,
            batch_size=self.batch_size,
            dimensions=self.dimensions,
            now=flow.now(),
            ttl=self.ttl,
            wait=self.wait,
            learned=self._learned,
            beside=self.store.beside if beside else None,
            codec=self.codec,
        )

    def _inputs(self, texts: Sequence[str], subject: Subject) -> Inputs:
        return Inputs.begin(texts, subject)

    def _run(self, steps: flow.Flow, call: Callable[[Any], Any]) -> Any:
        return flow.run(steps, store=self.store, call=call, observe=self._observe)

    async def _arun(self, steps: flow.Flow, call: Callable[[Any], Any]) -> Vectors:
        rows: Vectors = await flow.arun(steps, store=self.store, call=call, observe=self._observe)
        return rows


def _both(
    function: Callable[[list[str]], Any], twin: Callable[[list[str]], Any] | None
) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    return colours.blocking(function), colours.awaitable(twin or function)


def _single(text: str) -> list[str]:
    if not isinstance(text, str):
        raise InputTypeError(f"the query is a {type(text).__qualname__}; give one string")
    return [text]
