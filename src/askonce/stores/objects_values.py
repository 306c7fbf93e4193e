"""Values of an object store: where they lie, and how to get many with few requests."""

import bisect
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from askonce.stores.objects_bucket import Bucket, joined, together
from askonce.stores.objects_manifest import PACKS
from askonce.stores.objects_segments import HERE, Segment, checksum_of

_GAP = 256 * 1024
"""Reading over so many bytes takes less time than another request."""

_PART = 8 * 1024**2


@dataclass(frozen=True, slots=True)
class Spot:
    """Be the place of a value: bytes of an object, with the checksum they have under a digest."""

    path: str
    start: int
    end: int
    digest: bytes
    checksum: int

    def check(self, value: bytes) -> bytes | None:
        """Give the value if it is the right one."""
        return value if checksum_of(self.digest, value) == self.checksum else None


def spot_of(segment: Segment, row: int) -> Spot:
    """Tell where the value of a row lies."""
    found = segment.rows[row]
    place, start, length = int(found["place"]), int(found["offset"]), int(found["length"])
    path = segment.name
    if place == HERE:
        start += segment.values_at
    else:
        path = f"{PACKS}/{segment.packs[place - 1]}"
    digest = segment.digests[row : row + 1].tobytes()
    return Spot(path, start, start + length, digest, int(found["checksum"]))


async def fetch(
    bucket: Bucket, spots: Sequence[Spot], at_hand: dict[str, bytes]
) -> tuple[list[bytes | None], set[str]]:
    """Get values, None for what is damaged; also tell which objects were not there.

    `at_hand` are objects that need not be got.
    """
    by_path: defaultdict[str, set[tuple[int, int]]] = defaultdict(set)
    for spot in spots:
        by_path[spot.path].add((spot.start, spot.end))
    wanted: list[tuple[str, int, int]] = []
    for path, ranges in by_path.items():
        if path not in at_hand:
            parts = joined(sorted(ranges), _GAP, _PART)
            wanted += [(path, start, end) for start, end in parts]
    missing: set[str] = set()

    async def get(part: tuple[str, int, int]) -> bytes:
        try:
            return await bucket.get_range(*part)
        except FileNotFoundError:
            missing.add(part[0])
            return b""

    blocks = {path: [(0, content)] for path, content in at_hand.items()}
    for (path, start, _), part in zip(wanted, await together(get, wanted), strict=True):
        blocks.setdefault(path, []).append((start, part))
    values = [spot.check(_cut_out(spot, blocks[spot.path])) for spot in spots]
    return values, missing


def _cut_out(spot: Spot, blocks: Sequence[tuple[int, bytes]]) -> bytes:
    """Cut a value out of the last block that begins before it; blocks are in order."""
    start, block = blocks[bisect.bisect_right(blocks, spot.start, key=lambda one: one[0]) - 1]
    return block[spot.start - start : spot.end - start]
