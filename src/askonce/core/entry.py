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
from collections.abc import Mapping, Sequence
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
_CHECKSUM_AT = 40
_CHECKSUM_WORD = _CHECKSUM_AT // 8
_MAX_LENGTH = 2**32 - 1
NEVER = math.inf

_META = json.JSONEncoder(ensure_ascii=False, allow_nan=False)

Words = NDArray[np.uint64]


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
    whole = np.zeros((count, HEADER_LENGTH + _padded_length(length)), np.uint8)
    headers = whole[:, :HEADER_LENGTH].view(HEADER)[:, 0]
    headers["magic"] = MAGIC
    headers["codec"] = codec
    headers["created"] = created
    headers["expires"] = expires
    headers["binding"] = bindings
    headers["payload_length"] = length
    whole[:, HEADER_LENGTH : HEADER_LENGTH + length] = rows
    headers["checksum"] = checksum(whole.view("<u8"))
    return [row.tobytes() for row in whole]


def headers_of(blobs: Sequence[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.void]]:
    """View blobs of one length as rows of bytes and their headers, unchecked."""
    whole = np.frombuffer(b"".join(blobs), np.uint8).reshape(len(blobs), -1)
    return whole, whole[:, :HEADER_LENGTH].view(HEADER)[:, 0]


def whole_rows(whole: NDArray[np.uint8], headers: NDArray[np.void]) -> NDArray[np.bool_]:
    """Tell which rows are whole, undamaged entries without metadata."""
    payload = headers["payload_length"].astype(np.int64)
    fits = whole.shape[1] == HEADER_LENGTH + (payload + 7) // 8 * 8
    whole_ones: NDArray[np.bool_] = (
        (headers["magic"] == MAGIC)
        & (headers["meta_length"] == 0)
        & fits
        & (checksum(whole.view("<u8")) == headers["checksum"])
    )
    return whole_ones


def checksum(words: Words) -> Words:
    """Sum the words of each row, each times its weight, modulo 2**64."""
    count = words.shape[1]
    sums: Words = np.einsum("ij,j->i", words, _weights(1 << count.bit_length())[:count])
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


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 8)
