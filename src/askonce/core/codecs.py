"""How a payload is written: one table from codec number to meaning.

A number, once given, keeps its meaning for good: it is part of the stored format.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

FLOAT32 = 1
FLOAT64 = 2
JSON = 16

VECTOR_DTYPES: dict[int, np.dtype[np.floating[Any]]] = {
    FLOAT32: np.dtype("<f4"),
    FLOAT64: np.dtype("<f8"),
}


def fits_float32(vectors: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Tell which rows come back to the last bit when they are kept as float32."""
    if vectors.dtype.itemsize <= 4:
        return np.ones(len(vectors), bool)
    with np.errstate(over="ignore"):
        narrow = vectors.astype(np.float32)
    return np.asarray((narrow == vectors).all(axis=1))
