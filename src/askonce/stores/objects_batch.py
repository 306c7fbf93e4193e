"""Entries that are written together: which go into packs, and the rows that tell of them."""

from collections.abc import Iterator, Mapping

from askonce.core.entry import NEVER
from askonce.core.keys import utf8
from askonce.stores.objects_segments import (
    GONE,
    HERE,
    Draft,
    Segment,
    checksum_of,
    digest_of,
    draft_of,
)

_TOGETHER = 128 * 1024
"""Values of up to so many bytes go where their rows go: one object less."""

_PACK = 16 * 1024**2
_BYTES_AT_ONCE = 64 * 1024**2
_AT_ONCE = 10_000


class Batch:
    """Lay out entries: `packs` are the objects of values that come beside the segment."""

    def __init__(self, entries: Mapping[str, bytes], expires: float) -> None:
        self._entries = entries
        self._expires = expires
        self._places: list[tuple[int, int]] = []
        self._is_small = sum(map(len, entries.values())) <= _TOGETHER
        self.packs: list[list[bytes]] = []
        size = 0
        for value in () if self._is_small else entries.values():
            if not self.packs or size + len(value) > _PACK:
                self.packs.append([])
                size = 0
            self._places.append((len(self.packs), size))
            self.packs[-1].append(value)
            size += len(value)

    def draft(self, stamp: int, packs: list[str]) -> Draft:
        """Draft the segment, now that the packs have names."""
        keys = [utf8(key) for key in self._entries]
        values = list(self._entries.values())
        places = [(HERE, 0)] * len(values) if self._is_small else self._places
        rows: list[tuple[object, ...]] = []
        for name, key, value, (place, offset) in zip(
            self._entries, keys, values, places, strict=True
        ):
            digest = digest_of(name)
            found = checksum_of(digest, value)
            length = len(value)
            rows.append((digest, stamp, self._expires, offset, length, place, found, len(key), 0))
        return draft_of(rows, keys, packs, values if self._is_small else ())


def batches(entries: Mapping[str, bytes], expires: float) -> Iterator[Batch]:
    """Cut entries into batches that are written one after the other."""
    part: dict[str, bytes] = {}
    size = 0
    for key, value in entries.items():
        part[key] = value
        size += len(value)
        if len(part) == _AT_ONCE or size >= _BYTES_AT_ONCE:
            yield Batch(part, expires)
            part, size = {}, 0
    if part:
        yield Batch(part, expires)


def grave_of(segment: Segment, row: int) -> tuple[object, ...]:
    """Make the row that buries this version of an entry, and those before it, but no later one."""
    digest = segment.digests[row : row + 1].tobytes()
    return (digest, int(segment.rows["stamp"][row]), NEVER, 0, 0, GONE, 0, 0, 0)
