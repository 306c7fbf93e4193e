"""Segments: which entries an object store has, and where their values lie.

    header  48 bytes: magic "ASKP", version (u2), zero (u2), number of rows (u4) and of packs (u4),
            length of the keys (u8) and of the values (u8), CRC-32 of packs and rows (u4), of the
            keys (u4), zero (u4), CRC-32 of the 44 bytes before (u4); all numbers little-endian
    packs   names of 25 bytes, of the objects that hold values
    rows    64 bytes each, in the order of the digests
    keys    UTF-8, one after the other, in the order of the rows
    values  one after the other, of the rows that have theirs in the segment itself

What a reader cannot check is not there for it: a damaged segment, a value of another checksum.
"""

import dataclasses
import hashlib
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from askonce.core.keys import utf8
from askonce.errors import StoreError

ROW = np.dtype(
    [
        ("digest", "S16"),
        ("stamp", "<u8"),
        ("expires", "<f8"),
        ("offset", "<u8"),
        ("length", "<u8"),
        ("place", "<u4"),
        ("checksum", "<u4"),
        ("key_length", "<u4"),
        ("zero", "<u4"),
    ]
)
HERE = 0
"""The place of a value in the segment itself; others are numbers of packs, from 1."""
GONE = 2**32 - 1
"""The place of what was deleted; above all others, so that of one stamp it is the newest."""

_HEADER = struct.Struct("<4sHHIIQQIIII")
_MAGIC = b"ASKP"
_VERSION = 1
_PACK_NAME = 25
_DIGEST = 16
_FEW = 64

Digests = NDArray[np.bytes_]
Indexes = NDArray[np.intp]
Rows = NDArray[np.void]


def digest_of(key: str) -> bytes:
    """Digest a key to 16 bytes (BLAKE2b)."""
    return hashlib.blake2b(utf8(key), digest_size=_DIGEST).digest()


def checksum_of(digest: bytes, value: bytes | memoryview) -> int:
    """Sum up a value under the digest of its key, so that no other key's value has the same."""
    return zlib.crc32(value, zlib.crc32(digest))


def as_digests(digests: Iterable[bytes]) -> Digests:
    """Put digests into an array, which is free to leave out zeros at their ends."""
    return np.frombuffer(b"".join(digests), "S16")


@dataclass(frozen=True, eq=False)
class Segment:
    """Hold a segment's rows, and all its bytes if they are few."""

    name: str
    rows: Rows
    digests: Digests
    packs: tuple[str, ...]
    keys_at: int
    values_at: int
    size: int
    keys_checksum: int
    content: bytes | None
    few: frozenset[bytes]
    """The digests once more, if they are few."""

    @property
    def key_starts(self) -> NDArray[np.uint64]:
        """Tell where each row's key begins among the keys."""
        lengths = self.rows["key_length"].astype(np.uint64)
        starts: NDArray[np.uint64] = np.cumsum(lengths) - lengths
        return starts

    def keys_are(self, keys: bytes) -> bool:
        """Tell whether these are the segment's keys, undamaged."""
        return len(keys) == self.values_at - self.keys_at and zlib.crc32(keys) == self.keys_checksum

    def may_have(self, wanted: AbstractSet[bytes]) -> bool:
        """Tell quickly whether some of a few digests may be here."""
        return not (self.few and wanted and self.few.isdisjoint(wanted))

    def find(self, wanted: Digests) -> tuple[Indexes, Indexes]:
        """Tell which of the wanted digests are here, and in which rows."""
        if not len(self.digests):
            return np.empty(0, np.intp), np.empty(0, np.intp)
        at = np.minimum(np.searchsorted(self.digests, wanted), len(self.digests) - 1)
        found = np.flatnonzero(self.digests[at] == wanted)
        return found, at[found]


def parse(name: str, content: bytes, size: int) -> Segment | None:
    """Read a segment, or the beginning of one; None if it is damaged.

    Raises StoreError for one of a newer version.
    """
    if len(content) < _HEADER.size:
        return None
    values = _HEADER.unpack_from(content)
    magic, version, _, count, packs, keys_length, values_length, head, keys, _, own = values
    if magic != _MAGIC or zlib.crc32(content[: _HEADER.size - 4]) != own:
        return None
    if version > _VERSION:
        raise StoreError(f"{name} was written by a newer askonce; upgrade this one")
    rows_at = _HEADER.size + packs * _PACK_NAME
    keys_at = rows_at + count * ROW.itemsize
    values_at = keys_at + keys_length
    if len(content) < keys_at or size != values_at + values_length:
        return None
    if zlib.crc32(content[_HEADER.size : keys_at]) != head:
        return None
    names = content[_HEADER.size : rows_at].decode("ascii", "replace")
    rows = np.frombuffer(content, ROW, count, rows_at)
    return Segment(
        name,
        rows if len(content) == size else rows.copy(),
        np.ascontiguousarray(rows["digest"]),
        tuple(names[at : at + _PACK_NAME] for at in range(0, len(names), _PACK_NAME)),
        keys_at,
        values_at,
        size,
        keys,
        content if len(content) == size else None,
        frozenset(one_by_one(rows["digest"])) if count <= _FEW else frozenset(),
    )


def one_by_one(digests: Digests) -> Iterator[bytes]:
    """Take digests out of an array, whole."""
    block = digests.tobytes()
    return (block[at : at + _DIGEST] for at in range(0, len(block), _DIGEST))


def without_content(segment: Segment) -> Segment:
    """Let go of a segment's keys and values."""
    return dataclasses.replace(segment, rows=segment.rows.copy(), content=None)


def newest_of(segments: Sequence[Segment], wanted: Digests) -> tuple[Indexes, Indexes]:
    """Tell the segment and row of the newest version of each digest; -1 where there is none."""
    owners = np.full(len(wanted), -1, np.intp)
    rows = np.zeros(len(wanted), np.intp)
    stamps = np.zeros(len(wanted), np.uint64)
    gone = np.zeros(len(wanted), np.bool_)
    few = set(one_by_one(wanted)) if len(wanted) <= _FEW else set[bytes]()
    for number, segment in enumerate(segments):
        if not segment.may_have(few):
            continue
        found, at = segment.find(wanted)
        new = segment.rows["stamp"][at]
        dead = segment.rows["place"][at] == GONE
        known = stamps[found]
        better = (new > known) | ((new == known) & (dead | (owners[found] < 0)))
        found, at = found[better], at[better]
        owners[found], rows[found] = number, at
        stamps[found], gone[found] = new[better], dead[better]
    owners[gone] = -1
    return owners, rows


def newest_rows(segments: Sequence[Segment], *, gone: bool) -> tuple[Indexes, Indexes]:
    """Tell segment and row of the newest version of every entry, in the order of the digests.

    `gone` also gives what was deleted.
    """
    if not segments:
        return np.empty(0, np.intp), np.empty(0, np.intp)
    counts = [len(segment.rows) for segment in segments]
    owners = np.repeat(np.arange(len(segments), dtype=np.intp), counts)
    at = np.concatenate([np.arange(count, dtype=np.intp) for count in counts])
    digests = np.concatenate([segment.digests for segment in segments])
    stamps = np.concatenate([segment.rows["stamp"] for segment in segments])
    places = np.concatenate([segment.rows["place"] for segment in segments])
    order = np.lexsort((places, stamps, digests))
    digests = digests[order]
    newest = np.append(digests[1:] != digests[:-1], np.ones(min(1, len(digests)), np.bool_))
    if not gone:
        newest &= places[order] != GONE
    chosen = order[newest]
    return owners[chosen], at[chosen]


@dataclass
class Draft:
    """Gather the rows of a segment to be; `values` are those that it will hold itself."""

    rows: Rows
    keys: list[bytes]
    packs: list[str]
    values: list[bytes]

    def encode(self, start: int = 0, stop: int | None = None) -> tuple[bytes, int]:
        """Write these rows as a segment; give it, and the length of all before its keys."""
        rows = self.rows[start:stop].copy()
        here = rows["place"] == HERE
        lengths = np.where(here, rows["length"], np.uint64(0))
        rows["offset"][here] = (np.cumsum(lengths) - lengths)[here]
        outside = ~here & (rows["place"] != GONE)
        places, numbers = np.unique(rows["place"][outside], return_inverse=True)
        rows["place"][outside] = numbers + 1
        packs = [self.packs[place - 1] for place in places.tolist()]
        keys = b"".join(self.keys[start:stop])
        values = b"".join(self.values[start:stop])
        head = "".join(packs).encode("ascii") + rows.tobytes()
        sums = zlib.crc32(head), zlib.crc32(keys)
        lengths_of = len(rows), len(packs), len(keys), len(values)
        header = _HEADER.pack(_MAGIC, _VERSION, 0, *lengths_of, *sums, 0, 0)[:-4]
        header += struct.pack("<I", zlib.crc32(header))
        return header + head + keys + values, len(header) + len(head)


def draft_of(
    rows: Sequence[tuple[object, ...]],
    keys: Sequence[bytes] = (),
    packs: Sequence[str] = (),
    values: Sequence[bytes] = (),
) -> Draft:
    """Begin a draft from rows in any order, each with its key and value, or all without."""
    table = np.array(rows, ROW)
    order = np.argsort(table["digest"], kind="stable")
    in_order = order.tolist()
    return Draft(
        table[order],
        [keys[at] for at in in_order] if keys else [],
        list(packs),
        [values[at] for at in in_order] if values else [],
    )


def merge(parts: Sequence[Segment], others: Sequence[Segment]) -> Draft:
    """Make one segment of several whole ones: of each entry the newest version.

    What was deleted is left out, unless one of the other segments has it too.
    """
    owners, at = newest_rows(parts, gone=True)
    if not len(owners):
        return Draft(np.empty(0, ROW), [], [], [])
    counts = np.array([len(part.rows) for part in parts])
    rows = np.concatenate([part.rows for part in parts])[(np.cumsum(counts) - counts)[owners] + at]
    needed = rows["place"] != GONE
    for other in others:
        found, _ = other.find(np.ascontiguousarray(rows["digest"]))
        needed[found] = True
    rows, owners, at = rows[needed], owners[needed], at[needed]
    draft = Draft(rows, [], [], [])
    numbers: dict[str, int] = {}
    starts = [part.key_starts for part in parts]
    for index, (owner, row) in enumerate(zip(owners.tolist(), at.tolist(), strict=True)):
        part = parts[owner]
        content = part.content or b""
        key_at = part.keys_at + int(starts[owner][row])
        draft.keys.append(content[key_at : key_at + int(rows["key_length"][index])])
        place = int(rows["place"][index])
        value_at = part.values_at + int(rows["offset"][index])
        value_end = value_at + int(rows["length"][index])
        draft.values.append(content[value_at:value_end] if place == HERE else b"")
        if place not in {HERE, GONE}:
            name = part.packs[place - 1]
            rows["place"][index] = numbers.setdefault(name, len(numbers) + 1)
    draft.packs = list(numbers)
    return draft
