"""HTTP clients that ask a provider once: `OpenAI(http_client=askonce.http_client(...))`."""

import importlib
from types import ModuleType
from typing import Any

from askonce.core.store import Store
from askonce.errors import InputError, MissingExtraError
from askonce.http.cache import HTTPCache
from askonce.http.control import Policy, policy
from askonce.http.transport import transports

__all__ = [
    "HTTPCache",
    "Policy",
    "async_http_client",
    "async_transport",
    "http_client",
    "policy",
    "transport",
]

_MAX_CONNECTIONS = 1000
_MAX_IDLE_CONNECTIONS = 100
"""What the SDKs of OpenAI and Anthropic set for the clients that they make themselves."""


def http_client(cache: HTTPCache | Store | str, *, library: str | None = None, **rules: Any) -> Any:
    """Make an `httpx2.Client` (or `httpx.Client`) whose answers are asked for once.

    `cache` is a store's URL, a Store or an HTTPCache; `rules` are those of HTTPCache. `library` is
    "httpx2" or "httpx"; left out, it is httpx2 if installed. Timeouts are left at the library's
    default, which the SDKs replace by their own. Closing the client closes a store opened here.
    """
    module = _library(library)
    inner = module.HTTPTransport(limits=_limits(module))
    made = transport(cache, inner, library=library, **rules)
    return module.Client(transport=made, follow_redirects=True)


def async_http_client(
    cache: HTTPCache | Store | str, *, library: str | None = None, **rules: Any
) -> Any:
    """Make an `httpx2.AsyncClient` (or `httpx.AsyncClient`); see `http_client`."""
    module = _library(library)
    inner = module.AsyncHTTPTransport(limits=_limits(module))
    made = async_transport(cache, inner, library=library, **rules)
    return module.AsyncClient(transport=made, follow_redirects=True)


def transport(
    cache: HTTPCache | Store | str, inner: Any = None, *, library: str | None = None, **rules: Any
) -> Any:
    """Make a transport for a client of one's own, around `inner` (default: a plain one)."""
    made, _ = transports(_library(library))
    return made(_cache(cache, rules), inner)


def async_transport(
    cache: HTTPCache | Store | str, inner: Any = None, *, library: str | None = None, **rules: Any
) -> Any:
    """Make a transport for an async client of one's own; see `transport`."""
    _, made = transports(_library(library))
    return made(_cache(cache, rules), inner)


def _cache(cache: HTTPCache | Store | str, rules: dict[str, Any]) -> HTTPCache:
    if not isinstance(cache, HTTPCache):
        return HTTPCache(cache, **rules)
    if rules:
        raise InputError(f"the HTTPCache has its own rules; {', '.join(rules)} cannot be added")
    return cache


def _limits(module: ModuleType) -> Any:
    return module.Limits(
        max_connections=_MAX_CONNECTIONS, max_keepalive_connections=_MAX_IDLE_CONNECTIONS
    )


def _library(name: str | None) -> ModuleType:
    if name not in (None, "httpx2", "httpx"):
        raise InputError(f"library is {name!r}; it is 'httpx2' or 'httpx'")
    for candidate in (name,) if name else ("httpx2", "httpx"):
        try:
            return importlib.import_module(candidate)
        except ImportError:
            continue
    raise MissingExtraError(name or "httpx2", "http", "an HTTP client that caches")
