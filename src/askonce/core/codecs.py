"""How a payload is written: one table from codec number to meaning.

A number, once given, keeps its meaning for good: it is part of the stored format.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

FLOAT32 = 1
FLOAT64 = 2
FLOAT16 = 3
INT8 = 4
"""A float32 scale, then a signed byte for each number: the number over the scale."""

JSON = 16
EVENTS = 17
"""The bytes of a stream of server-sent events."""

Codec = Literal["lossless", "float16", "int8"]
"""How a caller asks for vectors to be kept."""

LOSSY: dict[str, int] = {"float16": FLOAT16, "int8": INT8}

VECTOR_DTYPES: dict[int, np.dtype[np.floating[Any]]] = {
    FLOAT32: np.dtype("<f4"),
    FLOAT64: np.dtype("<f8"),
    FLOAT16: np.dtype("<f2"),
}
VECTORS = (FLOAT32, FLOAT64, FLOAT16, INT8)

_SCALE = np.dtype("<f4")
_LARGEST = {FLOAT16: (2.0**-14, 65519.0), INT8: (1e-35, 1e38)}
"""Where the largest number of a vector must lie for a lossy codec to be precise and finite."""


def choose(vectors: NDArray[np.floating[Any]], codec: Codec) -> NDArray[np.uint8]:
    """Tell by which codec each row is kept: a lossy one if that can hold it, else lossless."""
    chosen = np.where(fits_float32(vectors), np.uint8(FLOAT32), np.uint8(FLOAT64))
    lossy = LOSSY.get(codec)
    if lossy is not None:
        largest = np.abs(vectors).max(axis=1)
        least, most = _LARGEST[lossy]
        chosen[(largest == 0) | ((largest >= least) & (largest <= most))] = lossy
    return chosen


def encode(vectors: NDArray[np.floating[Any]], codec: int) -> NDArray[np.uint8]:
    """Write rows as payloads of equal length, the rows of an array."""
    if codec != INT8:
        return np.ascontiguousarray(vectors, VECTOR_DTYPES[codec]).view(np.uint8)
    scales = (np.abs(vectors).max(axis=1, keepdims=True) / 127).astype(_SCALE)
    steps = np.rint(vectors / np.where(scales == 0, _SCALE.type(1), scales))
    return np.hstack([scales.view(np.uint8), steps.astype(np.int8).view(np.uint8)])


def decode(payloads: NDArray[np.uint8], codec: int) -> NDArray[np.floating[Any]]:
    """Read the rows that payloads of equal length hold; they may be a view."""
    if codec != INT8:
        return payloads.view(VECTOR_DTYPES[codec])
    scales = payloads[:, : _SCALE.itemsize].view(_SCALE)
    return np.multiply(payloads[:, _SCALE.itemsize :].view(np.int8), scales, dtype=np.float32)


def dimensions(length: int, codec: int) -> int:
    """Tell how many numbers a payload of this length holds; 0 if it is no vector's."""
    if codec == INT8:
        return max(0, length - _SCALE.itemsize)
    numbers, rest = divmod(length, VECTOR_DTYPES[codec].itemsize)
    return 0 if rest else numbers


def fits_float32(vectors: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Tell which rows come back to the last bit when they are kept as float32."""
    if vectors.dtype.itemsize <= 4:
        return np.ones(len(vectors), bool)
    with np.errstate(over="ignore"):
        narrow = vectors.astype(np.float32)
    return np.asarray((narrow == vectors).all(axis=1))
