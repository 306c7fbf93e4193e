"""Manifests: which merged segments count, told by the newest one, and the names of all objects."""

import json
import re
import secrets
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from askonce.errors import StoreError
from askonce.stores.objects_bucket import Listed

LOG = "log"
INDEX = "index"
PACKS = "packs"

_FORMAT = 1
_LOOSE = re.compile(rf"{LOG}/l([0-9a-f]{{16}})-[0-9a-f]{{8}}")
_MANIFEST = re.compile(rf"{LOG}/m([0-9a-f]{{12}})")
_INDEX = re.compile(rf"{INDEX}/([0-9a-f]{{12}})-[0-9a-f]{{8}}")
_PACK = re.compile(rf"{PACKS}/[0-9a-f]{{16}}-[0-9a-f]{{8}}")


@dataclass(frozen=True, slots=True)
class Named:
    """Name a segment; `head` bytes of its `size` come before its keys."""

    path: str
    head: int
    size: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """Be the outcome of all merging so far: the segments that count, the loose that do not."""

    generation: int = 0
    stamp: int = 0
    segments: tuple[Named, ...] = ()
    replaced: frozenset[str] = frozenset()

    @property
    def path(self) -> str:
        """Give the path of the object that holds it."""
        return manifest_path(self.generation)

    def encode(self) -> bytes:
        """Write it: a line with its CRC-32, and JSON."""
        content = json.dumps(
            {
                "format": _FORMAT,
                "stamp": self.stamp,
                "segments": [[named.path, named.head, named.size] for named in self.segments],
                "replaced": sorted(self.replaced),
            }
        ).encode()
        return b"%08x\n" % zlib.crc32(content) + content

    @classmethod
    def decode(cls, generation: int, blob: bytes) -> "Manifest | None":
        """Read one; None if it is damaged. Raises StoreError if it is of a newer format."""
        checksum, _, content = blob.partition(b"\n")
        if checksum != b"%08x" % zlib.crc32(content):
            return None
        read = json.loads(content)
        if read["format"] > _FORMAT:
            raise StoreError(
                f"{manifest_path(generation)} was written by a newer askonce; upgrade this one"
            )
        segments = tuple(Named(*named) for named in read["segments"])
        return cls(generation, read["stamp"], segments, frozenset(read["replaced"]))


@dataclass(slots=True)
class Listing:
    """Sort what is listed in the log: loose segments, and the generations of manifests."""

    loose: dict[str, Named] = field(default_factory=dict[str, Named])
    generations: list[int] = field(default_factory=list[int])
    stamp: int = 0

    @classmethod
    def of(cls, listed: Iterable[Listed]) -> "Listing":
        """Sort a listing; what is not ours is left out."""
        listing = cls()
        for one in listed:
            if match := _LOOSE.fullmatch(one.path):
                listing.loose[one.path] = Named(one.path, one.size, one.size)
                listing.stamp = max(listing.stamp, int(match[1], 16))
            elif match := _MANIFEST.fullmatch(one.path):
                listing.generations.append(int(match[1], 16))
        return listing


def manifest_path(generation: int) -> str:
    """Name a manifest; behind all loose segments in the order of names."""
    return f"{LOG}/m{generation:012x}"


def loose_path(stamp: int) -> str:
    """Name a segment that was just written."""
    return f"{LOG}/l{stamp:016x}-{secrets.token_hex(4)}"


def index_path(generation: int) -> str:
    """Name a merged segment, of a manifest to be."""
    return f"{INDEX}/{generation:012x}-{secrets.token_hex(4)}"


def pack_name(stamp: int) -> str:
    """Name a pack."""
    return f"{stamp:016x}-{secrets.token_hex(4)}"


def generation_of(path: str) -> int | None:
    """Tell of which generation a merged segment is, None if it is something else."""
    match = _INDEX.fullmatch(path)
    return int(match[1], 16) if match else None


def is_pack(path: str) -> bool:
    """Tell whether this is one of our packs."""
    return _PACK.fullmatch(path) is not None
