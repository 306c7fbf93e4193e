"""The only maker of keys.

A key is `namespace/kind/model/digest`: three readable segments of a fixed alphabet and the
SHA-256 of the whole identity. The digest alone tells two requests apart; the segments are for
people, for listing by prefix and for clearing one namespace.

Identities are encoded as type-tagged, length-delimited bytes, so that no two different values
have the same encoding and the order of a mapping does not matter.
"""

import contextlib
import functools
import hashlib
import itertools
import re
import struct
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from askonce.errors import InputTypeError

VERSION = b"askonce:1"
"""Part of every digest: a new way of encoding identities makes new keys."""

RESERVED = "~askonce/"
"""Begins keys that are for a store's own use; no namespace is called that."""

_PLAIN_SEGMENT = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_NOT_IN_SEGMENT = re.compile(r"[^a-z0-9._-]+")

Identity = Mapping[str, object]


def utf8(text: str) -> bytes:
    """Encode any string, lone surrogates too, without two strings meeting."""
    return text.encode("utf-8", "surrogatepass")


def utf8_each(texts: Iterable[str]) -> Iterator[bytes]:
    """Encode many strings, each when it is wanted. Raises TypeError at what is no string."""
    return map(str.encode, texts, itertools.repeat("utf-8"), itertools.repeat("surrogatepass"))


def encode(value: object) -> bytes:
    """Encode JSON-like data (and bytes) unambiguously.

    Raises InputTypeError for anything else: what has no stable content has no identity.
    """
    match value:
        case None:
            return b"n"
        case bool():
            return b"t" if value else b"f"
        case int():
            return _tagged(b"i", str(value).encode())
        case float():
            return b"d" + struct.pack("<d", value)
        case str():
            return _tagged(b"s", utf8(value))
        case bytes():
            return _tagged(b"b", value)
        case Mapping():
            return _encode_mapping(value)
        case Sequence():
            return _tagged(b"l", b"".join(map(encode, value)))
        case _:
            raise InputTypeError(
                f"a {type(value).__qualname__} cannot be part of what identifies a call: only "
                "None, booleans, numbers, strings, bytes, lists and mappings have a stable content"
            )


def _tagged(tag: bytes, content: bytes) -> bytes:
    return b"%s%d:%s" % (tag, len(content), content)


def _encode_mapping(mapping: Mapping[object, object]) -> bytes:
    for name in mapping:
        if not isinstance(name, str):
            raise InputTypeError(f"mapping key {name!r} is not a string")
    items = sorted((encode(name), encode(content)) for name, content in mapping.items())
    return _tagged(b"m", b"".join(name + content for name, content in items))


def digest(identity: Identity) -> bytes:
    """Digest a whole identity: SHA-256, 32 bytes."""
    return hashlib.sha256(VERSION + encode(identity)).digest()


def segment(text: str) -> str:
    """Write a name in the alphabet of keys: itself if it can be, else a slug and a digest."""
    if not text:
        return "_"
    if _PLAIN_SEGMENT.fullmatch(text):
        return text
    slug = _NOT_IN_SEGMENT.sub("-", text.lower()).strip("-.")[:32]
    return f"{slug}~{hashlib.sha256(utf8(text)).hexdigest()[:32]}"


def namespace_prefix(namespace: str) -> str:
    """Give the prefix that the keys of one namespace, and of no other, start with."""
    return segment(namespace) + "/"


@dataclass(frozen=True)
class Subject:
    """Hold what a family of calls has in common: namespace, kind, model and parameters."""

    namespace: str
    kind: str
    model: str
    parameters: Identity = field(default_factory=dict[str, object])

    @functools.cached_property
    def prefix(self) -> str:
        """Give the readable start of this subject's keys."""
        return f"{namespace_prefix(self.namespace)}{segment(self.kind)}/{segment(self.model)}/"

    def digest(self) -> bytes:
        """Digest the subject itself, without any input."""
        return self._digest

    @functools.cached_property
    def _digest(self) -> bytes:
        return digest(
            {
                "namespace": self.namespace,
                "kind": self.kind,
                "model": self.model,
                "parameters": self.parameters,
            }
        )

    def digests(self, inputs: Iterable[bytes]) -> list[bytes]:
        """Digest each input under this subject, as they come.

        The subject's digest has a fixed length, so subject and input cannot run together.
        """
        witnesses = tuple(_witnesses)
        shown = list(inputs) if witnesses else []
        begin = hashlib.sha256(self.digest()).copy
        digests: list[bytes] = []
        for content in shown or inputs:
            running = begin()
            running.update(content)
            digests.append(running.digest())
        for witness in witnesses:
            witness(self, shown, digests)
        return digests

    def keys(self, digests: Iterable[bytes]) -> list[str]:
        """Write digests as keys."""
        prefix = self.prefix
        return [prefix + value.hex() for value in digests]


Witness = Callable[[Subject, Collection[bytes], Sequence[bytes]], None]

_witnesses: list[Witness] = []


@contextlib.contextmanager
def witnessed(witness: Witness) -> Generator[None]:
    """Show inputs and their digests to a witness, from all threads, as long as the block lasts.

    Keys do not tell what they stand for; tests that keep answers for people to read want to know.
    """
    _witnesses.append(witness)
    try:
        yield
    finally:
        _witnesses.remove(witness)
