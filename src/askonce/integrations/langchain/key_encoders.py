"""The keys that LangChain gives to embedded texts, so that its caches go on hitting."""

import hashlib
import uuid
from collections.abc import Callable, Mapping, Sequence

from askonce.core.keys import utf8
from askonce.errors import InputError, InputTypeError

KeyEncoder = Callable[[str], str]
NameKeys = Callable[[Sequence[str]], list[str]]

_UUID_NAMESPACE = uuid.UUID(int=1985).bytes
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
"""A UUID keeps two bits of its 17th digit to itself (RFC 4122, section 4.1.1)."""


def sha1(text: str) -> str:
    """Give the name-based UUID (RFC 4122, version 5) of a text's SHA-1.

    The same as `uuid.uuid5`, without the object around the number.
    """
    name = hashlib.sha1(utf8(text), usedforsecurity=False).hexdigest().encode()
    digits = hashlib.sha1(_UUID_NAMESPACE + name, usedforsecurity=False).hexdigest()
    return (
        f"{digits[:8]}-{digits[8:12]}-5{digits[13:16]}-"
        f"{_VARIANT[digits[16]]}{digits[17:20]}-{digits[20:32]}"
    )


ENCODERS: Mapping[str, KeyEncoder] = {
    "sha1": sha1,
    "blake2b": lambda text: hashlib.blake2b(utf8(text)).hexdigest(),
    "sha256": lambda text: hashlib.sha256(utf8(text)).hexdigest(),
    "sha512": lambda text: hashlib.sha512(utf8(text)).hexdigest(),
}


def key_maker(encoder: KeyEncoder | str, namespace: str) -> NameKeys:
    """Make the function that names the keys of texts.

    Raises InputError for an encoder that is not known, or that is your own while a namespace is
    given too, which it could only ignore.
    """
    if not isinstance(namespace, str):
        raise InputTypeError(f"namespace is a {type(namespace).__qualname__}; give a string")
    if isinstance(encoder, str):
        if encoder not in ENCODERS:
            raise InputError(
                f"key_encoder is {encoder!r}; choose one of {', '.join(sorted(ENCODERS))}, "
                "or pass a function from text to key"
            )
        return _known(ENCODERS[encoder], namespace)
    if not callable(encoder):
        raise InputTypeError(
            f"key_encoder is a {type(encoder).__qualname__}; choose one of "
            f"{', '.join(sorted(ENCODERS))}, or pass a function from text to key"
        )
    if namespace:
        raise InputError(
            "namespace has no effect on a key_encoder of your own: "
            "leave it out, and let the encoder put the namespace into its keys"
        )
    return _own(encoder)


def _known(encode: KeyEncoder, namespace: str) -> NameKeys:
    return lambda texts: [namespace + encode(text) for text in texts]


def _own(encode: KeyEncoder) -> NameKeys:
    def name(texts: Sequence[str]) -> list[str]:
        keys = [encode(text) for text in texts]
        for key in keys:
            if not isinstance(key, str) or not key:
                raise InputTypeError(f"key_encoder returned {key!r}; it must give a string")
        return keys

    return name


def for_queries(name_keys: NameKeys) -> NameKeys:
    """Keep the keys of queries apart from those of documents in the same store."""
    return lambda texts: [f"{key}-query" for key in name_keys(texts)]
