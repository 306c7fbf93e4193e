"""The vectors of one call, gathered from stored entries."""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from askonce.core import codecs, entry
from askonce.core.vectors import Indices, Vectors

_BLOCK = 512 * 1024
"""Bytes of entries worked on at once: what was just joined is checked and copied in the cache."""

_WORTH_A_THREAD = 1024 * 1024

_TYPICAL = 1536
"""Dimensions, where they are not known."""

_FEWEST = 64


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
        self._copier = _Copier()

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

    def fill(self, indices: Indices, vectors: Vectors) -> None:
        """Fill in vectors of the model's own, of the length learned; they are copied at once."""
        self._fill(indices, vectors, copy=np.copyto)

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
            decoded = codecs.decode(payload, codec)
            fits = self._fill(indices[chosen], decoded, copy=self._copier.copy)
            if self._known and not fits:
                foreign[chosen] = True
        not_ours: Indices = indices[foreign]
        return not_ours

    def _fill(
        self, indices: Indices, vectors: Vectors, copy: Callable[[Vectors, Vectors], None]
    ) -> bool:
        length = vectors.shape[1]
        if self._dimensions is None:
            self._dimensions = length
        if length != self._dimensions:
            return False
        self._make_room(vectors.dtype)
        where = slice(indices[0], indices[-1] + 1) if is_run(indices) else indices
        if isinstance(where, slice):
            copy(self._rows[where], vectors)
        else:
            self._rows[where] = vectors
        self.good[where] = True
        return True

    def _make_room(self, dtype: np.dtype[np.floating[Any]]) -> None:
        shape = (len(self.good), self._dimensions or 0)
        wanted = np.promote_types(self._rows.dtype, dtype)
        if self._rows.shape != shape:
            self._rows = np.empty(shape, wanted)
        elif self._rows.dtype != wanted:
            self._copier.finish()
            # Rows that are not there yet hold whatever the memory held.
            with np.errstate(invalid="ignore"):
                self._rows = self._rows.astype(wanted)

    def learn(self, dimensions: int) -> None:
        """Take the model's word for how long its vectors are; rows that differ are dropped."""
        self._known = True
        if dimensions != self._dimensions:
            self._copier.finish()
            self._dimensions = dimensions
            self._rows = np.empty((len(self.good), dimensions), np.float32)
            self.good[:] = False

    def finish(self) -> None:
        """Wait until what was put is there; until then a thread may be at it."""
        self._copier.finish()

    def take(self, positions: Indices) -> Vectors:
        """Give an array of its own with the rows at these positions; the table ends with it."""
        self._copier.finish()
        if not len(positions):
            return np.empty((0, self._dimensions or 0), np.float32)
        if len(positions) == len(self._rows) and is_run(positions):
            return self._rows
        return np.take(self._rows, positions, axis=0)


class _Copier:
    """Copy rows on another core, a block at a time, while the next is read and checked."""

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._under_way: Future[None] | None = None

    def copy(self, to: Vectors, rows: Vectors) -> None:
        if rows.nbytes < _WORTH_A_THREAD:
            np.copyto(to, rows)
            return
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "askonce-copy")
        if self._under_way is not None:
            self._under_way.result()
        try:
            self._under_way = self._thread.submit(np.copyto, to, rows)
        except RuntimeError:  # no thread can be had: too many, or the interpreter is ending
            np.copyto(to, rows)

    def finish(self) -> None:
        """Wait for what is under way and end the thread."""
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = self._under_way = None


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


def is_run(indices: Indices) -> bool:
    """Tell whether each index is the one before plus one."""
    return bool((indices[1:] - indices[:-1] == 1).all())
