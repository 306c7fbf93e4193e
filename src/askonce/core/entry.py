"""What a store keeps under a key: a fixed header, optional metadata, a payload.

All numbers are little-endian; `docs/reference/entry-format.md` describes the layout for
readers in other languages.

    offset  size  field
         0     4  magic "ASK1"
         4     1  codec of the payload
         5     3  zero
         8     8  created, seconds since 1970 (float64)
        16     8  expires, seconds since 1970 (float64, +inf: never)
        24     8  binding, the first 8 bytes of the digest the entry answers (0: not bound)
        32     4  length of the metadata
        36     4  length of the payload
        40     8  checksum
        48        metadata (JSON, UTF-8), then payload, each padded with zeros to 8 bytes

The checksum is the sum of all 64-bit words, each times an odd weight of its own, modulo 2**64;
the checksum's own word counts as 0. It costs numpy one pass over a whole batch.
"""

import functools
import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

MAGIC = b"ASK1"
HEADER = np.dtype(
    [
        ("magic", "S4"),
        ("codec", "u1"),
        ("zero", "V3"),
        ("created", "<f8"),
        ("expires", "<f8"),
        ("binding", "<u8"),
        ("meta_length", "<u4"),
        ("payload_length", "<u4"),
        ("checksum", "<u8"),
    ]
)
_HEADER = struct.Struct("<4sB3xddQIIQ")
_TIMES = struct.Struct("<4s4xdd")
HEADER_LENGTH = HEADER.itemsize
_HEADER_WORDS = HEADER_LENGTH // 8
_CHECKSUM_AT = 40
_CHECKSUM_WORD = _CHECKSUM_AT // 8
_KIND_WORDS = slice(0, 5, 4)
"""Magic and codec in one, the lengths in the other."""
_MAX_LENGTH = 2**32 - 1
NEVER = math.inf

_META = json.JSONEncoder(ensure_ascii=False, allow_nan=False)

Words = NDArray[np.uint64]
Rows = NDArray[np.intp] | slice


@dataclass(frozen=True, slots=True)
class Entry:
    """Hold one unpacked entry."""

    payload: bytes
    codec: int
    created: float
    expires: float = NEVER
    binding: int = 0
    meta: Mapping[str, object] = field(default_factory=dict[str, object])


def binding_of(digest: bytes) -> int:
    """Take from a digest what binds an entry to it."""
    return int.from_bytes(digest[:8], "little")


def pack(entry: Entry) -> bytes:
    """Write an entry as bytes."""
    meta = _META.encode(entry.meta).encode() if entry.meta else b""
    if len(entry.payload) > _MAX_LENGTH or len(meta) > _MAX_LENGTH:
        raise OverflowError("an entry holds at most 4 GiB")
    whole = bytearray(
        _HEADER.pack(
            MAGIC,
            entry.codec,
            entry.created,
            entry.expires,
            entry.binding,
            len(meta),
            len(entry.payload),
            0,
        )
    )
    whole += _padded(meta)
    whole += _padded(entry.payload)
    struct.pack_into("<Q", whole, _CHECKSUM_AT, _checksum_of(whole))
    return bytes(whole)


def unpack(blob: bytes, *, with_meta: bool = True) -> Entry | None:
    """Read an entry, or None if these bytes are not a whole, undamaged one."""
    if len(blob) < HEADER_LENGTH or len(blob) % 8 or not blob.startswith(MAGIC):
        return None
    _, codec, created, expires, binding, meta_length, payload_length, expected = (
        _HEADER.unpack_from(blob)
    )
    start = HEADER_LENGTH + _padded_length(meta_length)
    if len(blob) != start + _padded_length(payload_length) or _checksum_of(blob) != expected:
        return None
    meta: dict[str, object] = {}
    if with_meta and meta_length:
        try:
            meta = json.loads(blob[HEADER_LENGTH : HEADER_LENGTH + meta_length])
        except ValueError:
            return None
    return Entry(blob[start : start + payload_length], codec, created, expires, binding, meta)


def meta_of(blob: bytes) -> dict[str, object]:
    """Read the metadata of an entry that is known to be whole; {} if it has none."""
    length = _HEADER.unpack_from(blob)[5]
    try:
        meta = json.loads(blob[HEADER_LENGTH : HEADER_LENGTH + length]) if length else {}
    except ValueError:
        return {}
    return meta if isinstance(meta, dict) else {}


def times_of(start: bytes | memoryview) -> tuple[float, float] | None:
    """Read created and expires from the start of an entry, unchecked; None if it is none."""
    if len(start) < _TIMES.size:
        return None
    magic, created, expires = _TIMES.unpack_from(start)
    return (created, expires) if magic == MAGIC else None


def has_expired(start: bytes | memoryview, *, now: float) -> bool:
    """Tell from the start of an entry whether it may be reclaimed; what is no entry may not."""
    times = times_of(start)
    return times is not None and times[1] <= now


def pack_rows(
    rows: NDArray[np.uint8],
    *,
    codec: int,
    created: float,
    expires: float,
    bindings: Words,
) -> list[bytes]:
    """Write payloads of equal length, the rows of an array, as entries without metadata."""
    count, length = rows.shape
    padded = _padded_rows(rows)
    headers = np.zeros(count, HEADER)
    headers["magic"] = MAGIC
    headers["codec"] = codec
    headers["created"] = created
    headers["expires"] = expires
    headers["binding"] = bindings
    headers["payload_length"] = length
    words = headers.view("<u8").reshape(count, _HEADER_WORDS)
    headers["checksum"] = checksum(words) + checksum(padded.view("<u8"), _HEADER_WORDS)
    # Each entry is written once, where it stays: no array of all of them comes first.
    starts = headers.tobytes()
    payloads = padded.reshape(-1).data
    size = padded.shape[1]
    return [
        starts[row * HEADER_LENGTH : (row + 1) * HEADER_LENGTH]
        + payloads[row * size : (row + 1) * size]
        for row in range(count)
    ]


def may_have(length: int) -> bool:
    """Tell whether an entry can have this length."""
    return length >= HEADER_LENGTH and length % 8 == 0


def headers_of(whole: NDArray[np.uint8]) -> NDArray[np.void]:
    """View the headers of entries of one length, the rows of an array, unchecked."""
    headers: NDArray[np.void] = whole[:, :HEADER_LENGTH].view(HEADER)[:, 0]
    return headers


def kinds_of(whole: NDArray[np.uint8]) -> list[tuple[int, int, Rows]]:
    """Tell apart entries of one length: codec, length of the payload, and which rows those are.

    In the order of codecs and lengths; rows that are no whole entries without metadata are left
    out. Whether the others are undamaged is for `undamaged` to tell.
    """
    kinds: list[tuple[int, int, Rows]] = []
    for rows, first in _of_one_kind(whole.view("<u8")[:, _KIND_WORDS]):
        magic, codec, _, _, _, meta_length, payload_length, _ = _HEADER.unpack_from(whole[first])
        fits = whole.shape[1] == HEADER_LENGTH + _padded_length(payload_length)
        if magic == MAGIC and not meta_length and fits:
            kinds.append((codec, payload_length, rows))
    return sorted(kinds, key=lambda kind: kind[:2])


def _of_one_kind(marks: Words) -> Iterator[tuple[Rows, int]]:
    """Give the rows of each kind, and the first of them."""
    if (marks == marks[0]).all():
        yield slice(None), 0
        return
    _, firsts, kinds = np.unique(marks, axis=0, return_index=True, return_inverse=True)
    for kind, first in enumerate(firsts.tolist()):
        yield (kinds.reshape(-1) == kind).nonzero()[0], first


def undamaged(whole: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Tell which rows have the checksum they should have."""
    words = whole.view("<u8")
    sound: NDArray[np.bool_] = checksum(words) == words[:, _CHECKSUM_WORD]
    return sound


def checksum(words: Words, first: int = 0) -> Words:
    """Sum the words of each row, from the `first` of an entry, times weights, modulo 2**64."""
    end = first + words.shape[1]
    sums: Words = np.einsum("ij,j->i", words, _weights(1 << end.bit_length())[first:end])
    return sums


def _checksum_of(blob: bytes | bytearray) -> int:
    """Sum up one entry: `dot` takes a third of what `einsum` does to begin."""
    words = np.frombuffer(blob, "<u8")
    count = len(words)
    return int(np.dot(words, _weights(1 << count.bit_length())[:count]))


@functools.lru_cache(maxsize=32)
def _weights(count: int) -> Words:
    """Give the odd weights: splitmix64 (Steele, Lea and Flood, 2014) of 1, 2, 3 …, last bit set."""
    with np.errstate(over="ignore"):
        z = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    weights = (z ^ (z >> np.uint64(31))) | np.uint64(1)
    weights[_CHECKSUM_WORD : _CHECKSUM_WORD + 1] = 0
    weights.flags.writeable = False
    return weights


def _padded_length(length: int) -> int:
    return (length + 7) // 8 * 8


def _padded_rows(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Give the rows, each right behind the one before, with zeros to 8 bytes."""
    count, length = rows.shape
    if length % 8 == 0:
        return np.ascontiguousarray(rows)
    padded = np.zeros((count, _padded_length(length)), np.uint8)
    padded[:, :length] = rows
    return padded


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 8)
