"""Vectors on their way from a model to stored entries, a whole batch at a time."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from askonce.core import codecs, entry
from askonce.errors import AnswerError

Vectors = NDArray[np.floating[Any]]
"""Rows of float32 or float64."""

Indices = NDArray[np.intp]


def rows_of(answer: object, count: int) -> Vectors:
    """Check what a model answered for `count` texts and give it as rows.

    Raises AnswerError unless it is `count` vectors of one length, all numbers finite.
    """
    try:
        vectors = answer if isinstance(answer, np.ndarray) else list(answer)  # type: ignore[call-overload]
    except TypeError:
        raise AnswerError(
            f"the model returned a {type(answer).__qualname__}, not a list of vectors"
        ) from None
    if len(vectors) != count:
        raise AnswerError(f"the model returned {len(vectors)} vectors for {count} texts")
    try:
        rows = _rows_of_floats(vectors)
        if rows is None:
            rows = np.asarray(vectors)
    except (ValueError, TypeError) as error:
        raise AnswerError(f"the model returned vectors of different lengths: {error}") from None
    if rows.ndim != 2 or not rows.shape[1] or rows.dtype.kind not in "fiu":
        raise AnswerError(
            f"the model returned an array of shape {rows.shape} and type {rows.dtype} for {count} "
            f"texts; it should be ({count}, dimensions) numbers"
        )
    if rows.dtype != np.float32:
        wide = np.float32 if rows.dtype == np.float16 else np.float64
        rows = rows.astype(wide, copy=False)
    if not _are_finite(rows):
        finite = np.isfinite(rows).all(axis=1)
        raise AnswerError(
            f"the model returned NaN or infinity in the vector of text {int(finite.argmin())} "
            f"of this batch of {count}"
        )
    return rows


def _are_finite(rows: Vectors) -> bool:
    """Tell whether all numbers are finite: the sums of rows are not unless they are, or overflow.

    To multiply by ones is the fastest sum.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        sums = rows @ np.ones(rows.shape[1], rows.dtype)
    return bool(np.isfinite(sums).all() or np.isfinite(rows).all())


def _rows_of_floats(vectors: Any) -> Vectors | None:
    """Convert lists of floats in half of numpy's time, or give None if they are anything else."""
    first = vectors[0] if isinstance(vectors, list) and vectors else None
    if not isinstance(first, list) or not first or type(first[0]) is not float:
        return None
    packing = struct.Struct(f"{len(first)}d")
    try:
        packed = b"".join([packing.pack(*vector) for vector in vectors])
    except (struct.error, TypeError, OverflowError):
        return None
    return np.frombuffer(packed).reshape(len(vectors), -1)


@dataclass(frozen=True)
class Part:
    """Hold those vectors of a batch that are kept by one codec: where they are, and as payloads."""

    rows: entry.Rows
    codec: int
    payloads: NDArray[np.uint8]

    def vectors(self) -> Vectors:
        """Give the vectors as they will come back."""
        return codecs.decode(self.payloads, self.codec)


def parts_of(vectors: Vectors, codec: codecs.Codec = "lossless") -> list[Part]:
    """Encode each row; lossless is float32 where that is enough, else float64."""
    numbers = codecs.choose(vectors, codec)
    different = sorted(set(numbers.tolist()))
    if len(different) == 1:
        return [Part(slice(None), different[0], codecs.encode(vectors, different[0]))]
    chosen = [(number, (numbers == number).nonzero()[0]) for number in different]
    return [Part(rows, number, codecs.encode(vectors[rows], number)) for number, rows in chosen]


def pack(
    vectors: Vectors,
    bindings: entry.Words,
    *,
    created: float,
    expires: float,
    codec: codecs.Codec = "lossless",
) -> list[bytes]:
    """Write each row as an entry."""
    return pack_parts(parts_of(vectors, codec), bindings, created=created, expires=expires)


def pack_parts(
    parts: Sequence[Part], bindings: entry.Words, *, created: float, expires: float
) -> list[bytes]:
    """Write each row of a batch that was encoded as an entry, in the order of the batch."""
    blobs = np.empty(len(bindings), object)
    for part in parts:
        blobs[part.rows] = entry.pack_rows(
            part.payloads,
            codec=part.codec,
            created=created,
            expires=expires,
            bindings=bindings[part.rows],
        )
    whole: list[bytes] = blobs.tolist()
    return whole
