"""Values of an object store: where they lie, and how to get many with few requests."""

import bisect
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from askonce.errors import StoreError
from askonce.stores.objects_bucket import Bucket, joined, together
from askonce.stores.objects_manifest import PACKS
from askonce.stores.objects_segments import (
    HERE,
    Digests,
    Indexes,
    Segment,
    checksum_of,
    newest_of,
    one_by_one,
)

_GAP = 256 * 1024
"""Reading over so many bytes takes less time than another request."""

_PART = 8 * 1024**2


class Spot(NamedTuple):
    """Be the place of a value: bytes of an object, with the checksum they have under a digest."""

    path: str
    start: int
    end: int
    digest: bytes
    checksum: int


class Block(NamedTuple):
    """Be a part of an object as it was asked for; the object may end before `end`."""

    start: int
    end: int
    content: bytes | memoryview


class Values:
    """Get values from objects, and keep what was got; an object never changes."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._blocks: dict[str, list[Block]] = {}

    def find(self, segments: Sequence[Segment], wanted: Digests) -> dict[int, Spot]:
        """Tell where the newest values of digests lie, by their numbers, if there are any.

        Those in segments of which all is at hand need not be got.
        """
        owners, rows = newest_of(segments, wanted)
        found: dict[int, Spot] = {}
        for owner in np.unique(owners[owners >= 0]).tolist():
            segment = segments[owner]
            if segment.content is not None:
                self._blocks[segment.name] = [Block(0, sys.maxsize, segment.content)]
            numbers = np.flatnonzero(owners == owner)
            found |= zip(numbers.tolist(), _spots_of(segment, rows[numbers]), strict=True)
        return found

    async def load(self, spots: Iterable[Spot]) -> set[str]:
        """Get what is not at hand of these; tell which objects were not there."""
        by_path: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        for path, start, end, _, _ in spots:
            by_path[path].append((start, end))
        wanted: list[tuple[str, int, int]] = []
        for path, ranges in by_path.items():
            parts = joined(sorted(ranges), _GAP, _PART)
            if any(self._block(path, start, end).end < end for start, end in parts):
                wanted += [(path, start, end) for start, end in parts]
        missing: set[str] = set()

        async def get(part: tuple[str, int, int]) -> memoryview:
            try:
                return await self._bucket.get_view(*part)
            except FileNotFoundError:
                missing.add(part[0])
                return memoryview(b"")

        blocks: defaultdict[str, list[Block]] = defaultdict(list)
        for (path, start, end), part in zip(wanted, await together(get, wanted), strict=True):
            if path not in missing:
                blocks[path].append(Block(start, end, part))
        self._blocks |= blocks
        return missing

    async def load_if_possible(self, spots: Iterable[Spot]) -> set[str] | None:
        """Get what may not be needed; None if that fails."""
        try:
            return await self.load(spots)
        except StoreError:
            return None

    def cut(self, spots: Iterable[Spot]) -> Iterator[bytes | None]:
        """Cut out values that were loaded, None for what is damaged or was not there."""
        held, block = "", Block(0, -1, b"")
        for path, start, end, digest, checksum in spots:
            if path != held or not block.start <= start <= end <= block.end:
                held, block = path, self._block(path, start, end)
            value = block.content[start - block.start : end - block.start]
            yield bytes(value) if checksum_of(digest, value) == checksum else None

    def _block(self, path: str, start: int, end: int) -> Block:
        """Find the block that has a range; an empty one if there is none."""
        blocks = self._blocks.get(path, ())
        at = bisect.bisect_right(blocks, start, key=lambda block: block.start) - 1
        if at >= 0 and end <= blocks[at].end:
            return blocks[at]
        return Block(start, -1, b"")


def _spots_of(segment: Segment, rows: Indexes) -> Iterator[Spot]:
    chosen = segment.rows[rows]
    starts = chosen["offset"].copy()
    starts[chosen["place"] == HERE] += np.uint64(segment.values_at)
    paths = [segment.name, *(f"{PACKS}/{name}" for name in segment.packs)]
    return map(
        Spot,
        map(paths.__getitem__, chosen["place"].tolist()),
        starts.tolist(),
        (starts + chosen["length"]).tolist(),
        one_by_one(chosen["digest"]),
        chosen["checksum"].tolist(),
    )
