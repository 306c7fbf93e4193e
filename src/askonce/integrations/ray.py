"""Ray Data's batches, each text embedded once by whichever worker comes first."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from askonce.integrations.columns import Column, Opening

__all__ = ["Embedder"]


class Embedder:
    """Be the class that Ray's `map_batches` makes in each worker, to add vectors to batches.

        dataset.map_batches(
            Embedder, fn_constructor_args=(open_cache,), compute=ActorPoolStrategy(size=4)
        )

    `open_cache` is a function without arguments that makes an EmbeddingCache; Ray sends it to the
    workers, and each calls it once. Texts are in `column`, vectors go to `to`, as float32: a
    tensor column for batches of numpy or pandas, lists of fixed size for those of pyarrow.
    Raises InputError for a column that is not there or has anything but strings, and whatever
    EmbeddingCache raises.
    """

    def __init__(self, open_cache: Opening, *, column: str = "text", to: str = "vector") -> None:
        self._column = Column(open_cache, column, to)
        self._cache = self._column.open_cache()

    def __call__(self, batch: Any) -> Any:
        name, vectors = self._column.vectors, self._column.embed(batch, self._cache)
        if isinstance(batch, dict):
            return {**batch, name: vectors}
        if hasattr(batch, "append_column"):
            return _with_lists(batch, name, vectors)
        return batch.assign(**{name: list(vectors)})

    def __del__(self) -> None:
        # The only way in which Ray tells that a worker has done its work.
        if cache := self.__dict__.get("_cache"):
            cache.close()


def _with_lists(table: Any, name: str, vectors: NDArray[np.float32]) -> Any:
    import pyarrow as pa  # noqa: PLC0415  it is here if there is a table

    lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    place = table.schema.get_field_index(name)
    if place < 0:
        return table.append_column(name, lists)
    return table.set_column(place, name, lists)
