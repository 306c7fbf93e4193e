"""Spark's DataFrames, each text embedded once by whichever worker comes first."""

# Spark is large and cannot be where the types are checked.
# pyright: reportMissingImports=false, reportUnknownParameterType=false

from collections.abc import Iterator
from typing import Any

from askonce.errors import MissingExtraError
from askonce.integrations.columns import Column, Opening

try:
    from pyspark.sql import DataFrame
    from pyspark.sql.types import ArrayType, FloatType, StructField, StructType
except ImportError as error:
    raise MissingExtraError("pyspark", "spark", "askonce.integrations.spark") from error

__all__ = ["Embedder"]


class Embedder:
    """Be the function of Spark's `mapInPandas` that adds vectors to batches.

        embed = Embedder(open_cache)
        vectors = frame.mapInPandas(embed, embed.schema(frame))

    `open_cache` is a function without arguments that makes an EmbeddingCache; Spark sends it to
    the workers, where it is called for each partition. Texts are in `column`, vectors go to `to`
    as arrays of float. Raises InputError for a column that is not there; a text that is null and
    whatever EmbeddingCache raises fails the task.
    """

    def __init__(self, open_cache: Opening, *, column: str = "text", to: str = "vector") -> None:
        self._column = Column(open_cache, column, to)

    def schema(self, frame: DataFrame) -> StructType:
        """Give the schema of a DataFrame and its vectors, without asking for any."""
        self._column.check(frame.columns)
        kept = [field for field in frame.schema.fields if field.name != self._column.vectors]
        vectors = ArrayType(FloatType(), containsNull=False)
        return StructType([*kept, StructField(self._column.vectors, vectors, nullable=False)])

    def __call__(self, batches: Iterator[Any]) -> Iterator[Any]:
        cache = self._column.open_cache()
        try:
            for batch in batches:
                vectors = self._column.embed(batch, cache)
                yield batch.assign(**{self._column.vectors: list(vectors)})
        finally:
            cache.close()
