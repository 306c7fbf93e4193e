"""What a caller asks of the cache for one request: in headers, or for a block of Python code."""

import contextlib
import dataclasses
import math
from collections.abc import Collection, Generator, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypedDict, Unpack

from askonce.errors import InputError
from askonce.wire import KEPT_IF_ASKED


class Defaults(TypedDict, total=False):
    """Name what may be asked for a whole cache; see `Policy`."""

    namespace: str
    ttl: float | None
    tags: Collection[str]
    sample: int
    no_cache: bool
    no_store: bool
    only_if_cached: bool
    max_age: float | None
    stale_if_error: float
    stale_while_revalidate: float
    random: bool


class Wishes(Defaults, total=False):
    """Name what may be asked for a block of code; see `Policy`."""

    keep: Collection[str]


@dataclass(frozen=True, slots=True)
class Policy:
    """Hold what a caller asks of the cache. Times are in seconds; None is no limit.

    `sample` tells which draw of a random answer is meant. `random` False refuses to cache what
    may be answered differently each time. `keep` names shortfalls (`length`, `content_filter`,
    `refusal`) whose answers are kept all the same.
    """

    namespace: str = ""
    ttl: float | None = None
    tags: Collection[str] = ()
    sample: int = 0
    no_cache: bool = False
    no_store: bool = False
    only_if_cached: bool = False
    max_age: float | None = None
    stale_if_error: float = 0.0
    stale_while_revalidate: float = 0.0
    random: bool = True
    keep: Collection[str] = frozenset()

    def __post_init__(self) -> None:
        for name in ("tags", "keep"):
            given = getattr(self, name)
            if isinstance(given, str) or not all(isinstance(word, str) for word in given):
                raise InputError(f"{name} is {given!r}; give a list of strings")
        object.__setattr__(self, "tags", tuple(sorted(set(self.tags))))
        object.__setattr__(self, "keep", frozenset(self.keep))
        if not isinstance(self.namespace, str):
            raise InputError(f"namespace is {self.namespace!r}; give a string")
        if self.ttl is not None and not self.ttl > 0:
            raise InputError(f"ttl is {self.ttl!r}; give seconds above 0, or None for ever")
        if type(self.sample) is not int or self.sample < 0:
            raise InputError(f"sample is {self.sample!r}; samples are counted from 0")
        for name in ("max_age", "stale_if_error", "stale_while_revalidate"):
            seconds = getattr(self, name)
            if seconds is not None and not seconds >= 0:
                raise InputError(f"{name} is {seconds!r}; give seconds, 0 or more")
        if unknown := set(self.keep) - KEPT_IF_ASKED:
            raise InputError(f"keep names {sorted(unknown)}; it may name {sorted(KEPT_IF_ASKED)}")


def policy_of(wishes: Mapping[str, Any]) -> Policy:
    """Make a policy. Raises InputError for a name or a value that cannot be used."""
    known = [field.name for field in dataclasses.fields(Policy)]
    if unknown := [name for name in wishes if name not in known]:
        raise InputError(f"a policy has {', '.join(known)}; not {', '.join(unknown)}")
    try:
        return Policy(**wishes)
    except TypeError as error:
        raise InputError(f"a value of the policy cannot be used: {error}") from None


_NOTHING: Mapping[str, Any] = MappingProxyType({})
_asked: ContextVar[Mapping[str, Any]] = ContextVar("askonce_policy", default=_NOTHING)


@contextlib.contextmanager
def policy(**wishes: Unpack[Wishes]) -> Generator[None]:
    """Ask this of the cache for every request made inside the block; see `Policy` for the names.

    Blocks add up, the inner one wins; a request's own headers win over both. It holds for this
    thread or task and for the tasks that it starts, like any context variable. Raises InputError
    for an unknown name or a value that cannot be used.
    """
    policy_of(wishes)
    token = _asked.set({**_asked.get(), **wishes})
    try:
        yield
    finally:
        _asked.reset(token)


def policy_for(default: Policy, headers: Iterable[tuple[str, str]]) -> Policy:
    """Give the policy of one request: its headers over the block it is in over the default.

    Raises InputError for a header that cannot be read.
    """
    told: dict[str, Any] = {}
    for name, value in headers:
        if name == "cache-control":
            told |= _directives(value)
        elif name.startswith(OWN_PREFIX):
            wish = _own(name, value)
            if "tags" in wish:
                wish["tags"] += told.get("tags", ())
            told |= wish
    wishes = {**_asked.get(), **told}
    return dataclasses.replace(default, **wishes) if wishes else default


OWN_PREFIX = "askonce-"

_FLAGS = {"no-cache": "no_cache", "no-store": "no_store", "only-if-cached": "only_if_cached"}
_SECONDS = {
    "max-age": "max_age",
    "stale-if-error": "stale_if_error",
    "stale-while-revalidate": "stale_while_revalidate",
}


def _directives(value: str) -> dict[str, Any]:
    """Read `Cache-Control` (RFC 9111, section 5.2.1); unknown directives are passed over."""
    wishes: dict[str, Any] = {}
    for directive in value.split(","):
        name, _, argument = directive.strip().lower().partition("=")
        if name in _FLAGS:
            wishes[_FLAGS[name]] = True
        elif name in _SECONDS:
            wishes[_SECONDS[name]] = _number(f"Cache-Control: {name}", argument.strip('"'))
    return wishes


def _own(name: str, value: str) -> dict[str, Any]:
    match name.removeprefix(OWN_PREFIX):
        case "namespace":
            return {"namespace": value}
        case "ttl":
            return {"ttl": _number("Askonce-TTL", value)}
        case "tags":
            return {"tags": tuple(tag.strip() for tag in value.split(",") if tag.strip())}
        case "sample":
            if not (value.isascii() and value.isdecimal() and len(value) < 10):
                raise InputError(f"Askonce-Sample is {value!r}; samples are counted from 0")
            return {"sample": int(value)}
        case _:
            raise InputError(
                f"unknown header {name!r}; there are Askonce-Namespace, -TTL, -Tags, -Sample"
            )


def _number(name: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number < math.inf:
        raise InputError(f"{name} is {value!r}; give a number of seconds")
    return number
