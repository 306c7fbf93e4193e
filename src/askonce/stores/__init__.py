"""Stores by URL: one row a scheme, each backend one file that is imported when first used."""

import importlib
import math
import os
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

from askonce.core.store import Store
from askonce.errors import InputError, InputTypeError, StoreError

__all__ = [
    "AT_HAND",
    "SCHEMES",
    "SMALL_PAGE_SIZE",
    "Location",
    "Store",
    "for_answers",
    "open_store",
    "patient",
]

ENTRY_POINT_GROUP = "askonce.stores"

SCHEMES: Mapping[str, str] = {
    "memory": "askonce.stores.memory:MemoryStore",
    "file": "askonce.stores.file:FileStore",
    "sqlite": "askonce.stores.sqlite:SQLiteStore",
    "lmdb": "askonce.stores.lmdb:LMDBStore",
    "s3": "askonce.stores.objects:ObjectStore",
    "gs": "askonce.stores.objects:ObjectStore",
    "az": "askonce.stores.objects:ObjectStore",
    "file+object": "askonce.stores.objects:ObjectStore",
    "redis": "askonce.stores.redis:RedisStore",
    "rediss": "askonce.stores.redis:RedisStore",
    "redis+cluster": "askonce.stores.redis:RedisStore",
    "rediss+cluster": "askonce.stores.redis:RedisStore",
    "redis+sentinel": "askonce.stores.redis:RedisStore",
    "rediss+sentinel": "askonce.stores.redis:RedisStore",
    "valkey": "askonce.stores.redis:RedisStore",
    "valkeys": "askonce.stores.redis:RedisStore",
    "postgres": "askonce.stores.postgres:PostgresStore",
    "postgresql": "askonce.stores.postgres:PostgresStore",
}

LAYERS: Mapping[str, str] = {
    "encrypted": "askonce.stores.encrypted:EncryptedStore",
    "tiered": "askonce.stores.tiered:TieredStore",
}
"""By what comes before the plus in a scheme, where the rest is the scheme of another store."""


@dataclass(frozen=True)
class Location:
    """Hold a store's URL, taken apart."""

    url: str
    scheme: str
    path: str
    options: Mapping[str, str]

    @classmethod
    def of(cls, url: str) -> "Location":
        """Take a URL apart. Raises InputError if it is not one."""
        scheme, separator, rest = url.partition("://")
        if not separator or not scheme:
            raise InputError(
                f"{_hide(url)!r} is not a store URL; write for example 'sqlite:///cache.db', "
                f"'file:///folder' or 'memory://' (known: {', '.join(sorted(SCHEMES))})"
            )
        path, _, query = rest.partition("?")
        options = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        return cls(url, scheme.lower(), urllib.parse.unquote(path), options)

    @property
    def shown(self) -> str:
        """Give the URL as it may be shown: without user and password."""
        return _hide(self.url)

    def __repr__(self) -> str:
        return f"Location({self.shown!r})"

    def file_path(self) -> Path:
        """Give the path on this machine: `scheme:///relative` or `scheme:////absolute`.

        Raises InputError where a relative path looks like an absolute one with a slash forgotten.
        """
        if not self.path.startswith("/"):
            raise InputError(
                f"{self.shown!r} has two slashes; write {self.scheme}:///relative/path "
                f"or {self.scheme}:////absolute/path"
            )
        name = self.path[1:]
        if not name:
            raise InputError(f"{self.shown!r} names no path")
        try:
            path = Path(name).expanduser()
        except RuntimeError as error:
            raise InputError(f"{self.shown!r}: {error}") from None
        first = path.parts[0] if len(path.parts) > 1 and not name.startswith("./") else ""
        if first and not Path(first).exists() and Path(os.sep, first).is_dir():
            raise InputError(
                f"{self.shown!r} means the relative path {str(path)!r}, and there is no {first!r} "
                f"here. Write {self.scheme}:////{path} for the absolute path, "
                f"or {self.scheme}:///./{path} if the relative one is meant"
            )
        return path

    def only_options(self, *known: str) -> None:
        """Raise InputError for an option that the store does not have."""
        for name in self.options:
            if name not in known:
                raise InputError(
                    f"{self.shown!r}: unknown option {name!r}; "
                    f"{self.scheme} stores have {', '.join(known) or 'no options'}"
                )

    def size_option(self, name: str, default: int) -> int:
        """Read an option that is a number of bytes, like 500000, 64MB or 2GiB."""
        text = self.options.get(name)
        return default if text is None else parse_size(text)

    def seconds_option(self, name: str, default: float) -> float:
        """Read an option that is a number of seconds above 0."""
        text = self.options.get(name)
        try:
            seconds = default if text is None else float(text)
        except ValueError:
            seconds = 0.0
        if not 0 < seconds < math.inf:
            raise InputError(f"{name} is {text!r}; give a number of seconds above 0, like 0.2")
        return seconds

    def limit_option(self) -> int | None:
        """Read the option `max_bytes`, None if it is not there."""
        return self.size_option("max_bytes", 0) if "max_bytes" in self.options else None


def _hide(url: str) -> str:
    """Hide the user and password in a URL, also in one inside another, and rather too much."""
    without_user = re.sub(r"(?<=://)(?!/).*@", "***@", url, flags=re.DOTALL)
    return re.sub(r"(?i)(\w*(?:password|secret|token)\w*=)[^&]*", r"\1***", without_user)


_UNITS = {"": 1, "B": 1} | {
    letter + ending: base**power
    for power, letter in enumerate("KMGT", start=1)
    for ending, base in (("", 1000), ("B", 1000), ("IB", 1024))
}


def parse_size(text: str) -> int:
    """Read a number of bytes with an optional unit. Raises InputError."""
    number = text.rstrip("BKMGTIbkmgti ")
    try:
        size = int(float(number) * _UNITS[text[len(number) :].strip().upper()])
    except (ValueError, KeyError, OverflowError):
        size = -1
    if size < 0:
        raise InputError(f"{text!r} is not a size; write for example 500000, 64MB or 2GiB")
    return size


class Openable(Protocol):
    """Be what a scheme's class offers: a store from its location."""

    @classmethod
    def open(cls, location: Location) -> Store: ...


AT_HAND = ("file", "file+object", "lmdb", "memory", "sqlite")
"""The schemes of stores on this machine; those of other packages may be anything."""

_PATIENT = "5"
"""Seconds to wait for a remote store's answer where no program waits for ours."""


SMALL_PAGE_SIZE = 4096
"""Of SQLite, for entries written one at a time: each write puts whole pages into the log."""


def open_store(store: Store | str) -> Store:
    """Open the store that a URL names; a Store is given back as it is.

    Other packages add schemes by entry points in the group `askonce.stores`, whose objects have a
    class method `open(location)`. Raises InputError for a URL that names no known store,
    MissingExtraError if the backend is not installed, StoreError if it cannot be opened.
    """
    if isinstance(store, Store):
        return store
    if not isinstance(store, str):
        raise InputTypeError(
            f"a store is given as a URL or a Store, not a {type(store).__qualname__}; "
            "askonce.adapt makes a store of those of fsspec, py-key-value and LangChain"
        )
    location = Location.of(store)
    return _backend(location).open(location)


def _backend(location: Location) -> type[Openable]:
    layer, plus, _ = location.scheme.partition("+")
    target = SCHEMES.get(location.scheme) or (LAYERS.get(layer) if plus else None)
    if target is not None:
        module, _, name = target.partition(":")
        backend: type[Openable] = getattr(importlib.import_module(module), name)
        return backend
    for point in entry_points(group=ENTRY_POINT_GROUP, name=location.scheme):
        try:
            loaded: type[Openable] = point.load()
        except Exception as error:
            raise StoreError(
                f"the store {location.scheme!r} of {point.value} failed to load: {error}"
            ) from error
        return loaded
    raise InputError(
        f"{location.shown!r}: unknown kind of store {location.scheme!r}; "
        f"known are {', '.join(sorted(SCHEMES))}"
    )


def patient(url: str) -> str:
    """Let a remote store take its time, unless the URL says how much it has."""
    location = Location.of(url)
    if location.scheme in AT_HAND or location.scheme not in SCHEMES:
        return url
    missing = [name for name in ("lookup_timeout", "timeout") if name not in location.options]
    return _with_options(url, dict.fromkeys(missing, _PATIENT))


def for_answers(store: Store | str) -> Store | str:
    """Let a new SQLite file have small pages, as answers want them, unless the URL says which."""
    if not isinstance(store, str) or not store.lower().startswith("sqlite:"):
        return store
    if "page_size" in Location.of(store).options:
        return store
    return _with_options(store, {"page_size": str(SMALL_PAGE_SIZE)})


def _with_options(url: str, options: Mapping[str, str]) -> str:
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return url if not query else f"{url}{'&' if '?' in url else '?'}{query}"
