"""The vectors of one call, gathered from stored entries."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from askonce.core import arrays, codecs, copying, entry
from askonce.core.vectors import Indices, Vectors

_BLOCK = 512 * 1024
"""Bytes of entries worked on at once: what was just joined is checked and copied in the cache."""

_TYPICAL = 1536
"""Dimensions, where they are not known."""

_FEWEST = 64


def rows_in(size: int, dimensions: int | None) -> int:
    """Tell how many entries, most likely of float32, so many bytes hold."""
    return max(_FEWEST, size // (entry.HEADER_LENGTH + 4 * (dimensions or _TYPICAL)))


class Table:
    """Gather the vectors of one call, row by row, from entries as they arrive.

    `good` tells which rows are there. All good rows have one length: the `dimensions` asked for,
    else that of the model's own answers, stored ones too, else that of most entries. Entries from
    before `since` (seconds since 1970) are not taken. `bindings` may be filled in later than the
    table is made, before the entries are put. Until `finish`, large blocks may be checked and
    copied `beside`, on another core; `good` tells of them afterwards.
    """

    def __init__(
        self,
        bindings: entry.Words,
        *,
        dimensions: int | None,
        now: float,
        since: float = -math.inf,
        beside: bool = False,
    ) -> None:
        count = len(bindings)
        self.good = np.zeros(count, bool)
        self._rows: Vectors = arrays.empty((count, dimensions or 0), np.dtype(np.float32))
        self._bindings = bindings
        self._dimensions = dimensions
        self._known = dimensions is not None
        self._now = now
        self._since = since
        self._copier = copying.Copier() if beside else None

    def rows_in(self, size: int) -> int:
        """Tell how many entries, most likely of float32, so many bytes hold."""
        return rows_in(size, self._dimensions)

    def end_at(self, count: int) -> None:
        """Leave so many rows, the first ones: there are no more."""
        if count < len(self.good):
            self.good = self.good[:count]
            self._bindings = self._bindings[:count]
            self._rows = self._rows[:count]

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
        self._fill(indices, vectors)

    def _put_alike(self, indices: Indices, whole: NDArray[np.uint8]) -> Indices:
        """Fill in from entries of one length, the rows of an array."""
        headers = entry.headers_of(whole)
        sound = (headers["expires"] > self._now) & (headers["created"] >= self._since)
        mine = headers["binding"] == self._bindings[indices]
        if sound.all() and mine.all() and self._put_block(indices, whole):
            return np.empty(0, np.intp)
        sound &= entry.undamaged(whole)
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
            fits = self._fill(indices[chosen], decoded)
            if self._known and not fits:
                foreign[chosen] = True
        not_ours: Indices = indices[foreign]
        return not_ours

    def _put_block(self, indices: Indices, whole: NDArray[np.uint8]) -> bool:
        """Fill in entries that fit as they are unless damaged; False if they do not."""
        kinds = entry.kinds_of(whole)
        if not (self._known and len(kinds) == 1 and is_run(indices)):
            return False
        codec, length, rows = kinds[0]
        # Others are not views: to decode what is damaged may fail.
        if not isinstance(rows, slice) or codec not in codecs.VECTOR_DTYPES:
            return False
        vectors = codecs.decode(whole[:, entry.HEADER_LENGTH : entry.HEADER_LENGTH + length], codec)
        where = slice(indices[0], indices[-1] + 1)
        to = self._rows[where]
        if vectors.shape != to.shape or vectors.dtype != to.dtype:
            return False
        self._settle()
        block = copying.Block(where, whole, vectors, to)
        if self._copier is None or not self._copier.begin(block):
            self.good[where] = block.copy()
        return True

    def _settle(self) -> None:
        """Take note of what was copied beside; nothing is, afterwards."""
        if self._copier is not None and (copied := self._copier.finish()):
            where, sound = copied
            self.good[where] = sound

    def _fill(self, indices: Indices, vectors: Vectors) -> bool:
        length = vectors.shape[1]
        if self._dimensions is None:
            self._dimensions = length
        if length != self._dimensions:
            return False
        self._make_room(vectors.dtype)
        where = slice(indices[0], indices[-1] + 1) if is_run(indices) else indices
        self._rows[where] = vectors
        self.good[where] = True
        return True

    def _make_room(self, dtype: np.dtype[np.floating[Any]]) -> None:
        shape = (len(self.good), self._dimensions or 0)
        wanted = np.promote_types(self._rows.dtype, dtype)
        if self._rows.shape != shape:
            self._rows = arrays.empty(shape, wanted)
        elif self._rows.dtype != wanted:
            self._settle()
            # Rows that are not there yet hold whatever the memory held.
            with np.errstate(invalid="ignore"):
                self._rows = self._rows.astype(wanted)

    def learn(self, dimensions: int) -> None:
        """Take the model's word for how long its vectors are; rows that differ are dropped."""
        self._known = True
        if dimensions != self._dimensions:
            self._settle()
            self._dimensions = dimensions
            self._rows = arrays.empty((len(self.good), dimensions), np.dtype(np.float32))
            self.good[:] = False

    def finish(self) -> None:
        """Wait until what was put is there; from now on nothing is done beside."""
        try:
            self._settle()
        finally:
            if self._copier is not None:
                self._copier.close()
                self._copier = None

    def take(self, positions: Indices) -> Vectors:
        """Give an array of its own with the rows at these positions; the table ends with it."""
        if not len(positions):
            return np.empty((0, self._dimensions or 0), np.float32)
        if len(positions) == len(self._rows) and is_run(positions):
            return self._rows
        rows = arrays.empty((len(positions), self._rows.shape[1]), self._rows.dtype)
        # Without a mode, numpy would take into memory of its own first.
        return np.take(self._rows, positions, axis=0, out=rows, mode="clip")


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
