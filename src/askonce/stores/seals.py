"""Seals: how one key encrypts entries and names them.

A store below sees, of the key `namespace/kind/model/digest` of an entry: all but the last segment
as it is, for listing and clearing by prefix, and instead of the last one an HMAC-SHA-256 of the
whole key. So who reads the store cannot test a guess. Of the value it sees the length, and when
the entry was created and expires, for pruning.

A sealed value is an entry (`docs/reference/entry-format.md`) of codec 64 whose payload is

    offset  size  field
         0    24  salt, random
        24        AES-256-GCM of the length of the key (4 bytes, little-endian), the key, the value

The key of the cipher is the HMAC-SHA-256 of the salt, so that none is used twice and the nonce,
which is zero, never repeats with one (a random nonce of 96 bits would bound the number of
entries); the associated data is the name, so that a value moved elsewhere is not opened.
"""

import base64
import binascii
import functools
import hmac
import os
from collections.abc import Mapping, Sequence

from askonce.core import entry
from askonce.core.entry import NEVER, Entry
from askonce.core.keys import segment, utf8
from askonce.errors import InputError, MissingExtraError, StoreRefusedError

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
except ImportError as error:
    raise MissingExtraError("cryptography", "encryption", "an encrypted store") from error

Key = bytes | str
Keys = Key | Sequence[Key] | Mapping[str, Key | Sequence[Key]]

CODEC = 64
OTHERS = "*"
"""Stands for all namespaces without a key of their own, that of askonce itself among them."""

_SALT = 24
_TAG = 16
_NONCE = bytes(12)
_KEY_LENGTH = 32
_LONGEST = 2**31 - 1024**2
"""The cipher takes 2 GiB at once, the key of the entry among it."""


class Seal:
    """Encrypt and name the entries of one namespace with one key."""

    def __init__(self, key: bytes, namespace: str) -> None:
        # One key serves all namespaces, but none of them knows another's.
        self._values = _derived(key, b"values", namespace)
        self._names = _derived(key, b"names", namespace)

    def name(self, key: str) -> str:
        """Name an entry so that only who has the key can tell which it is."""
        folder = key[: key.rfind("/") + 1]
        return folder + hmac.digest(self._names, utf8(key), "sha256").hex()

    def close(self, name: str, key: str, value: bytes) -> bytes:
        """Encrypt a value together with its key."""
        if len(value) > _LONGEST:
            raise StoreRefusedError(f"an encrypted value has at most {_LONGEST} bytes")
        salt = os.urandom(_SALT)
        spelled = utf8(key)
        plain = len(spelled).to_bytes(4, "little") + spelled + value
        payload = salt + self._cipher(salt).encrypt(_NONCE, plain, utf8(name))
        created, expires = entry.times_of(value) or (0.0, NEVER)
        return entry.pack(Entry(payload, CODEC, created, expires))

    def open(self, name: str, blob: bytes) -> tuple[str, bytes] | None:
        """Decrypt a key and its value, None if this key did not encrypt them under this name."""
        found = entry.unpack(blob, with_meta=False)
        if found is None or found.codec != CODEC or len(found.payload) < _SALT + _TAG:
            return None
        salt, sealed = found.payload[:_SALT], found.payload[_SALT:]
        try:
            plain = self._cipher(salt).decrypt(_NONCE, sealed, utf8(name))
        except InvalidTag:
            return None
        end = 4 + int.from_bytes(plain[:4], "little")
        return plain[4:end].decode("utf-8", "surrogatepass"), plain[end:]

    def _cipher(self, salt: bytes) -> AESGCM:
        return AESGCM(hmac.digest(self._values, salt, "sha256"))


class Seals:
    """Give the seals of each namespace: the first writes, all of them read."""

    def __init__(self, keys: Keys) -> None:
        self._all: list[bytes] = []
        self._by_namespace: dict[str, list[bytes]] = {}
        if isinstance(keys, Mapping):
            listed = {name: _listed(own) for name, own in keys.items()}
            self._all = listed.pop(OTHERS, [])
            self._by_namespace = {segment(name): own for name, own in listed.items()}
        else:
            self._all = _listed(keys)
            if not self._all:
                raise InputError("keys is empty; give a key of 32 random bytes")
        self._of = functools.lru_cache(maxsize=1024)(self._made)

    def of(self, key: str) -> list[Seal]:
        """Give the seals for the entry with this key, none for a namespace without keys."""
        namespace, slash, _ = key.partition("/")
        return self._of(namespace if slash else "")

    def _made(self, namespace: str) -> list[Seal]:
        return [Seal(key, namespace) for key in self._by_namespace.get(namespace, self._all)]


def _listed(keys: Key | Sequence[Key]) -> list[bytes]:
    return [_read(key) for key in ((keys,) if isinstance(keys, bytes | str) else keys)]


def _read(key: Key) -> bytes:
    if isinstance(key, str):
        try:
            key = base64.b64decode(key.strip().replace("-", "+").replace("_", "/"), validate=True)
        except (binascii.Error, ValueError):
            key = b""
    if not isinstance(key, bytes) or len(key) != _KEY_LENGTH:
        raise InputError(
            "a key is 32 random bytes or their base64, made for example by "
            "`openssl rand -base64 32`"
        )
    return key


def _derived(key: bytes, purpose: bytes, namespace: str) -> bytes:
    """Derive a key by HKDF (RFC 5869), whose first step a random key does not need."""
    info = b"askonce:1:%s:%s" % (purpose, utf8(namespace))
    return HKDFExpand(algorithm=SHA256(), length=_KEY_LENGTH, info=info).derive(key)
