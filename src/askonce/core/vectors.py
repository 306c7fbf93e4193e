"""Vectors on their way to and from stored entries, a whole batch at a time."""

import math
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from askonce.core import codecs, entry
from askonce.errors import AnswerError

Vectors = NDArray[np.floating[Any]]
"""Rows of float32 or float64."""

Indices = NDArray[np.intp]

_BLOCK = 512 * 1024
"""Bytes of entries worked on at once: what was just joined is checked and copied in the cache."""

_TYPICAL = 1536
"""Dimensions, where they are not known."""

_FEWEST = 64


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
        rows = rows.astype(np.float32 if rows.dtype == np.float16 else np.float64)
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        raise AnswerError(
            f"the model returned NaN or infinity in the vector of text {int(finite.argmin())} "
            f"of this batch of {count}"
        )
    return rows


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


def pack(
    vectors: Vectors,
    bindings: entry.Words,
    *,
    created: float,
    expires: float,
    codec: codecs.Codec = "lossless",
) -> list[bytes]:
    """Write each row as an entry; lossless is float32 where that is enough, else float64."""
    numbers = codecs.choose(vectors, codec)
    blobs: list[bytes] = [b""] * len(vectors)
    for number in sorted(set(numbers.tolist())):
        (indices,) = (numbers == number).nonzero()
        packed = entry.pack_rows(
            codecs.encode(vectors[indices], number),
            codec=number,
            created=created,
            expires=expires,
            bindings=bindings[indices],
        )
        for index, blob in zip(indices.tolist(), packed, strict=True):
            blobs[index] = blob
    return blobs


class Table:
    """Gather the vectors of one call, row by row, from entries as they arrive.

    `good` tells which rows are there. All good rows have one length: the `dimensions` asked for,
    else that of the model's own answers, stored ones too, else that of most entries. Entries from
    before `since` (seconds since 1970) are not taken.
    """

    def __init__(
        self,
        bindings: entry.Words,
        *,
        dimensions: int | None,
        now: float,
        since: float = -math.inf,
    ) -> None:
        count = len(bindings)
        self.good = np.zeros(count, bool)
        self._rows: Vectors = np.empty((count, dimensions or 0), np.float32)
        self._bindings = bindings
        self._dimensions = dimensions
        self._known = dimensions is not None
        self._now = now
        self._since = since

    def rows_in(self, size: int) -> int:
        """Tell how many entries, most likely of float32, so many bytes hold."""
        return max(_FEWEST, size // (entry.HEADER_LENGTH + 4 * (self._dimensions or _TYPICAL)))

    def missing(self) -> Indices:
        """Give the indices of the rows that are not there yet."""
        return (~self.good).nonzero()[0]

    def put(self, indices: Indices, blobs: bytes | Sequence[bytes | None]) -> Indices:
        """Fill in what these entries hold; give back the indices of entries that are not ours.

        `blobs` may be one block of as many entries of one length.

        Those are whole, but answer another text or model: by their binding or, once the
        dimensions are known, by their length. Damaged and expired entries are left out, as if
        they were not there.
        """
        foreign = [self._put_alike(*block) for block in _blocks(indices, blobs)]
        return np.sort(np.concatenate(foreign)) if foreign else np.empty(0, np.intp)

    def _put_alike(self, indices: Indices, whole: NDArray[np.uint8]) -> Indices:
        """Fill in from entries of one length, the rows of an array."""
        headers = entry.headers_of(whole)
        sound = entry.undamaged(whole)
        sound &= (headers["expires"] > self._now) & (headers["created"] >= self._since)
        mine = headers["binding"] == self._bindings[indices]
        own = mine if mine.all() else mine | (headers["binding"] == 0)
        foreign = np.zeros(len(indices), bool)
        for codec, length, rows in entry.kinds_of(whole):
            usable = sound[rows] & own[rows]
            foreign[rows] = sound[rows] & ~own[rows]
            dimensions = codecs.dimensions(length, codec) if codec in codecs.VECTORS else 0
            if not dimensions or not usable.any():
                continue
            if not self._known and (usable & mine[rows]).any():
                self.learn(dimensions)
            all_of_them = isinstance(rows, slice) and bool(usable.all())
            chosen = rows if all_of_them else np.arange(len(indices))[rows][usable]
            payload = whole[chosen, entry.HEADER_LENGTH : entry.HEADER_LENGTH + length]
            fits = self._fill(indices[chosen], codecs.decode(payload, codec))
            if self._known and not fits:
                foreign[chosen] = True
        not_ours: Indices = indices[foreign]
        return not_ours

    def _fill(self, indices: Indices, vectors: Vectors) -> bool:
        length = vectors.shape[1]
        if self._dimensions is None:
            self._dimensions = length
        if length != self._dimensions:
            return False
        self._make_room(vectors.dtype)
        where = slice(indices[0], indices[-1] + 1) if _is_run(indices) else indices
        self._rows[where] = vectors
        self.good[where] = True
        return True

    def _make_room(self, dtype: np.dtype[np.floating[Any]]) -> None:
        shape = (len(self.good), self._dimensions or 0)
        wanted = np.promote_types(self._rows.dtype, dtype)
        if self._rows.shape != shape:
            self._rows = np.empty(shape, wanted)
        elif self._rows.dtype != wanted:
            self._rows = self._rows.astype(wanted)

    def learn(self, dimensions: int) -> None:
        """Take the model's word for how long its vectors are; rows that differ are dropped."""
        self._known = True
        if dimensions != self._dimensions:
            self._dimensions = dimensions
            self._rows = np.empty((len(self.good), dimensions), np.float32)
            self.good[:] = False

    def take(self, positions: Indices) -> Vectors:
        """Give an array of its own with the rows at these positions; the table ends with it."""
        if not len(positions):
            return np.empty((0, self._dimensions or 0), np.float32)
        if len(positions) == len(self._rows) and _is_run(positions):
            return self._rows
        return np.take(self._rows, positions, axis=0)


def _blocks(
    indices: Indices, blobs: bytes | Sequence[bytes | None]
) -> Iterator[tuple[Indices, NDArray[np.uint8]]]:
    """Give entries of one length as the rows of arrays, those of the most common length first."""
    if isinstance(blobs, bytes):
        if entry.may_have(len(blobs) // len(indices)):
            yield indices, _rows_of_bytes(blobs, len(indices))
        return
    by_length: dict[int, list[int]] = {}
    for place, blob in enumerate(blobs):
        if blob is not None:
            by_length.setdefault(len(blob), []).append(place)
    for length in sorted(by_length, key=lambda length: -len(by_length[length])):
        places = by_length[length]
        if not entry.may_have(length):
            continue
        chosen = indices if len(places) == len(indices) else indices[places]
        step = max(1, _BLOCK // length)
        for start in range(0, len(places), step):
            block = [blobs[place] or b"" for place in places[start : start + step]]
            yield chosen[start : start + step], _rows_of_bytes(b"".join(block), len(block))


def cut(block: bytes, count: int) -> list[bytes]:
    """Cut a block into as many entries of one length."""
    length = len(block) // count
    return [block[start : start + length] for start in range(0, len(block), length)]


def _rows_of_bytes(block: bytes, count: int) -> NDArray[np.uint8]:
    return np.frombuffer(block, np.uint8).reshape(count, -1)


def _is_run(indices: Indices) -> bool:
    """Tell whether each index is the one before plus one."""
    return bool((indices[1:] - indices[:-1] == 1).all())
