"""What a caller asks of the cache for one request: in headers, or for a block of Python code."""

import contextlib
import dataclasses
from collections.abc import Generator, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from askonce.errors import InputError
from askonce.wire import KEPT_IF_ASKED


@dataclass(frozen=True, slots=True)
class Policy:
    """Hold what a caller asks of the cache. Times are in seconds; None is no limit.

    `sample` tells which draw of a random answer is meant. `random` False refuses to cache what
    may be answered differently each time. `keep` names shortfalls (`length`, `content_filter`,
    `refusal`) whose answers are kept all the same.
    """

    namespace: str = ""
    ttl: float | None = None
    tags: tuple[str, ...] = ()
    sample: int = 0
    no_cache: bool = False
    no_store: bool = False
    only_if_cached: bool = False
    max_age: float | None = None
    stale_if_error: float = 0.0
    stale_while_revalidate: float = 0.0
    random: bool = True
    keep: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if isinstance(self.tags, str):
            raise InputError("tags is one string; give a list of strings")
        object.__setattr__(self, "tags", tuple(sorted(set(self.tags))))
        object.__setattr__(self, "keep", frozenset(self.keep))
        if self.ttl is not None and not self.ttl > 0:
            raise InputError(f"ttl is {self.ttl!r}; give seconds above 0, or None for ever")
        if self.sample < 0:
            raise InputError(f"sample is {self.sample}; samples are counted from 0")
        if unknown := self.keep - KEPT_IF_ASKED:
            raise InputError(f"keep names {sorted(unknown)}; it may name {sorted(KEPT_IF_ASKED)}")


_NOTHING: Mapping[str, Any] = MappingProxyType({})
_asked: ContextVar[Mapping[str, Any]] = ContextVar("askonce_policy", default=_NOTHING)


@contextlib.contextmanager
def policy(**wishes: Any) -> Generator[None]:
    """Ask this of the cache for every request made inside the block; see `Policy` for the names.

    Blocks add up, the inner one wins; a request's own headers win over both. Raises InputError
    for an unknown name or a value that cannot be used.
    """
    _check(wishes)
    token = _asked.set({**_asked.get(), **wishes})
    try:
        yield
    finally:
        _asked.reset(token)


def _check(wishes: Mapping[str, Any]) -> None:
    try:
        Policy(**wishes)
    except TypeError:
        known = ", ".join(field.name for field in dataclasses.fields(Policy))
        raise InputError(f"a policy has {known}; not {', '.join(wishes)}") from None


def policy_for(default: Policy, headers: Iterable[tuple[str, str]]) -> Policy:
    """Give the policy of one request: its headers over the block it is in over the default.

    Raises InputError for a header that cannot be read.
    """
    wishes = dict(_asked.get())
    for name, value in headers:
        if name == "cache-control":
            wishes |= _directives(value)
        elif name.startswith(OWN_PREFIX):
            wishes |= _own(name, value)
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
            return {"sample": int(_number("Askonce-Sample", value))}
        case _:
            raise InputError(
                f"unknown header {name!r}; there are Askonce-Namespace, -TTL, -Tags, -Sample"
            )


def _number(name: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise InputError(f"{name} is {value!r}; give a number of seconds")
    return number
