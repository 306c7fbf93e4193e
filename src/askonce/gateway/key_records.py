"""What is stored of an API key, and how its secret is written."""

import hashlib
import json
import math
import re
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

from askonce.core.entry import NEVER
from askonce.errors import InputError, InputTypeError

_MAGIC = b"ASKKEY1 "
_ID = re.compile(r"[a-z0-9]{8}")
_SECRET = re.compile(rf"ask-({_ID.pattern})-[A-Za-z0-9_-]{{43}}")
_LONGEST = 200


@dataclass(frozen=True, slots=True)
class ApiKey:
    """Hold what one key allows; its secret is nowhere in it.

    `models` are patterns of `fnmatch`, none for all models; `budget_per_day` is in dollars per UTC
    day; times are in seconds since 1970. Raises InputError for what cannot be meant.
    """

    id: str
    name: str
    namespace: str
    models: tuple[str, ...]
    requests_per_minute: int | None
    budget_per_day: float | None
    created: float
    expires: float
    revoked: float | None

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise InputError(f"{self.id!r} is not the id of a key")
        _check_text("name", self.name)
        _check_text("namespace", self.namespace)
        for pattern in self.models:
            _check_text("a pattern of models", pattern)
        count = self.requests_per_minute
        if count is not None and (type(count) is not int or count < 1):
            raise InputError(f"requests_per_minute is {count!r}; give a whole number above 0")
        budget = self.budget_per_day
        if budget is not None and not (_is_number(budget) and 0 < budget < math.inf):
            raise InputError(f"budget_per_day is {budget!r}; give dollars, above 0")
        if not (_is_number(self.expires) and self.expires > self.created):
            raise InputError(f"expires is {self.expires!r}; give a time that is still to come")

    def allows(self, model: str) -> bool:
        """Tell whether the key is good for a model; a request without one has the model ""."""
        return not self.models or any(fnmatchcase(model, pattern) for pattern in self.models)

    def refusal(self, now: float) -> Literal["revoked", "expired"] | None:
        """Tell why the key lets nobody in, None if it does."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires <= now else None


@dataclass(frozen=True, slots=True)
class Record:
    """Hold a key as it is stored: with the digest of its secret."""

    key: ApiKey
    digest: bytes


def id_of(secret: str) -> str | None:
    """Take the id from a secret, None if no key of ours is written like this."""
    match = _SECRET.fullmatch(secret)
    return match[1] if match else None


def digest_of(secret: str) -> bytes:
    """Digest a secret: SHA-256, 32 bytes.

    It has 256 random bits, which nobody can try out: a slow hash, as for passwords that people
    choose, would slow down nobody but us.
    """
    return hashlib.sha256(secret.encode()).digest()


def encode(record: Record) -> bytes:
    """Write a record: the digest of a line of JSON, and the line.

    It is no entry, so that even a `prune --older-than` leaves it alone.
    """
    told = asdict(record.key) | {"digest": record.digest.hex()}
    if record.key.expires == NEVER:
        told["expires"] = None
    body = json.dumps(told, allow_nan=False).encode()
    return _MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def decode(number: str, value: bytes) -> Record | None:
    """Read a record, None if it is damaged or not of this key.

    A field that is not known may hold a limit, so there is no key then either.
    """
    head, _, body = value.partition(b"\n")
    if head != _MAGIC + hashlib.sha256(body).hexdigest().encode():
        return None
    try:
        told: dict[str, Any] = json.loads(body)
        digest = bytes.fromhex(told.pop("digest"))
        if told["expires"] is None:
            told["expires"] = NEVER
        told["models"] = tuple(told["models"])
        key = ApiKey(**told)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return Record(key, digest) if key.id == number else None


def _check_text(what: str, text: str) -> None:
    if not isinstance(text, str):
        raise InputTypeError(f"{what} is {text!r}; give a string")
    if not (text.strip() and text.isprintable() and len(text) <= _LONGEST):
        raise InputError(
            f"{what} is {text!r}; give 1 to {_LONGEST} letters, without line breaks and the like"
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
