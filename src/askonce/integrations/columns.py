"""A column of texts that the workers of an engine for bulk work embed."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from askonce.embeddings import EmbeddingCache
from askonce.errors import InputError, InputTypeError

Opening = Callable[[], EmbeddingCache]
"""Open a cache in a worker. A cache itself has connections and cannot be sent there."""


class Column:
    """Hold where texts are and where their vectors go. Raises InputTypeError for what cannot be."""

    def __init__(self, open_cache: Opening, texts: str, vectors: str) -> None:
        if isinstance(open_cache, EmbeddingCache) or not callable(open_cache):
            raise InputTypeError(
                f"open_cache is a {type(open_cache).__qualname__}; give a function without "
                "arguments that makes the EmbeddingCache: it is called in each worker"
            )
        for name in (texts, vectors):
            if not isinstance(name, str):
                raise InputTypeError(f"a column is named by a string, not by {name!r}")
        self.texts = texts
        self.vectors = vectors
        self._open_cache = open_cache

    def open_cache(self) -> EmbeddingCache:
        """Open the cache, for this worker."""
        cache = self._open_cache()
        if not isinstance(cache, EmbeddingCache):
            raise InputTypeError(
                f"open_cache gave a {type(cache).__qualname__}; let it return an EmbeddingCache"
            )
        return cache

    def check(self, names: Iterable[str]) -> None:
        """Raise InputError unless the column of texts is among these."""
        names = list(names)
        if self.texts not in names:
            raise InputError(
                f"there is no column {self.texts!r}; there are {', '.join(map(repr, names))}"
            )

    def embed(self, batch: Any, cache: EmbeddingCache) -> NDArray[np.float32]:
        """Embed a batch: a dict of arrays, a pyarrow Table or a pandas DataFrame.

        Gives float32 of shape (rows, dimensions), whatever the model gives: all batches must have
        one type of column. Raises InputTypeError for anything but strings, and what
        EmbeddingCache.embed raises.
        """
        self.check(getattr(batch, "column_names", batch))
        column = batch[self.texts]
        texts = column.to_pylist() if hasattr(column, "to_pylist") else column.tolist()
        for row, text in enumerate(texts):
            if not isinstance(text, str):
                raise InputTypeError(
                    f"the column {self.texts!r} has {_kind(text)} in row {row} of a batch; "
                    "only strings can be embedded: leave such rows out before"
                )
        return cache.embed(texts).astype(np.float32, copy=False)


def _kind(value: object) -> str:
    # pandas writes a string that is not there as NaN.
    is_null = value is None or (isinstance(value, float) and math.isnan(value))
    return "null" if is_null else f"a {type(value).__qualname__}"
