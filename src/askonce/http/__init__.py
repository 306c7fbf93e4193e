"""HTTP clients that ask a provider once: `OpenAI(http_client=askonce.http_client(...))`."""

from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from askonce.core.store import Store
from askonce.errors import InputError
from askonce.http import libraries
from askonce.http.cache import CacheOptions, HTTPCache
from askonce.http.clients import make_client
from askonce.http.control import Policy, policy
from askonce.http.transport_classes import transports

if TYPE_CHECKING:
    import httpx
    import httpx2

__all__ = [
    "HTTPCache",
    "Policy",
    "async_http_client",
    "async_transport",
    "cache_of",
    "http_client",
    "policy",
    "transport",
]


@overload
def http_client(
    cache: HTTPCache | Store | str,
    *,
    library: Literal["httpx2"] | None = None,
    **rules: Unpack[CacheOptions],
) -> "httpx2.Client": ...


@overload
def http_client(
    cache: HTTPCache | Store | str, *, library: Literal["httpx"], **rules: Unpack[CacheOptions]
) -> "httpx.Client": ...


def http_client(
    cache: HTTPCache | Store | str, *, library: str | None = None, **rules: Unpack[CacheOptions]
) -> Any:
    """Make an `httpx2.Client` (or `httpx.Client`) whose answers are asked for once.

    `cache` is a store's URL, a Store or an HTTPCache; `rules` are those of HTTPCache. `library` is
    "httpx2" or "httpx"; left out, it is httpx2 if installed. Closing the client closes what was
    opened here, from a URL.
    """
    module = libraries.find(library)
    made, _ = transports(module)
    answers, owned = _cache(cache, rules)
    client = make_client(
        module, "Client", "HTTPTransport", lambda inner: made(answers, inner, owned=owned)
    )
    client.askonce = answers
    return client


@overload
def async_http_client(
    cache: HTTPCache | Store | str,
    *,
    library: Literal["httpx2"] | None = None,
    **rules: Unpack[CacheOptions],
) -> "httpx2.AsyncClient": ...


@overload
def async_http_client(
    cache: HTTPCache | Store | str, *, library: Literal["httpx"], **rules: Unpack[CacheOptions]
) -> "httpx.AsyncClient": ...


def async_http_client(
    cache: HTTPCache | Store | str, *, library: str | None = None, **rules: Unpack[CacheOptions]
) -> Any:
    """Make an `httpx2.AsyncClient` (or `httpx.AsyncClient`); see `http_client`."""
    module = libraries.find(library)
    _, made = transports(module)
    answers, owned = _cache(cache, rules)
    client = make_client(
        module, "AsyncClient", "AsyncHTTPTransport", lambda inner: made(answers, inner, owned=owned)
    )
    client.askonce = answers
    return client


@overload
def transport(
    cache: HTTPCache | Store | str,
    inner: "httpx2.BaseTransport | None" = None,
    *,
    library: Literal["httpx2"] | None = None,
    **rules: Unpack[CacheOptions],
) -> "httpx2.BaseTransport": ...


@overload
def transport(
    cache: HTTPCache | Store | str,
    inner: "httpx.BaseTransport | None" = None,
    *,
    library: Literal["httpx"],
    **rules: Unpack[CacheOptions],
) -> "httpx.BaseTransport": ...


def transport(
    cache: HTTPCache | Store | str,
    inner: Any = None,
    *,
    library: str | None = None,
    **rules: Unpack[CacheOptions],
) -> Any:
    """Make a transport for a client of one's own, around `inner` (default: a plain one)."""
    made, _ = transports(libraries.find(library))
    answers, owned = _cache(cache, rules)
    return made(answers, inner, owned=owned)


@overload
def async_transport(
    cache: HTTPCache | Store | str,
    inner: "httpx2.AsyncBaseTransport | None" = None,
    *,
    library: Literal["httpx2"] | None = None,
    **rules: Unpack[CacheOptions],
) -> "httpx2.AsyncBaseTransport": ...


@overload
def async_transport(
    cache: HTTPCache | Store | str,
    inner: "httpx.AsyncBaseTransport | None" = None,
    *,
    library: Literal["httpx"],
    **rules: Unpack[CacheOptions],
) -> "httpx.AsyncBaseTransport": ...


def async_transport(
    cache: HTTPCache | Store | str,
    inner: Any = None,
    *,
    library: str | None = None,
    **rules: Unpack[CacheOptions],
) -> Any:
    """Make a transport for an async client of one's own; see `transport`."""
    _, made = transports(libraries.find(library))
    answers, owned = _cache(cache, rules)
    return made(answers, inner, owned=owned)


def cache_of(client: object) -> HTTPCache:
    """Give the HTTPCache of a client that was made here, or of an SDK's client around one.

    Raises InputError for any other.
    """
    for candidate in (client, getattr(client, "_client", None)):
        found = getattr(candidate, "askonce", None)
        if isinstance(found, HTTPCache):
            return found
    raise InputError(
        f"this {type(client).__qualname__} has no cache of ours; give the client that "
        "http_client() made, or make the HTTPCache yourself and pass it on to be used"
    )


def _cache(cache: HTTPCache | Store | str, rules: CacheOptions) -> tuple[HTTPCache, bool]:
    """Give the cache and whether it was made here."""
    if not isinstance(cache, HTTPCache):
        return HTTPCache(cache, **rules), True
    if rules:
        raise InputError(f"the HTTPCache has its own rules; {', '.join(rules)} cannot be added")
    return cache, False
