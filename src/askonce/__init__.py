"""Ask a model once, keep the answer."""

import importlib
from typing import TYPE_CHECKING, Any

from askonce.core.store import Store
from askonce.embeddings import EmbeddingCache
from askonce.errors import (
    AnswerError,
    AskonceError,
    InputError,
    InputTypeError,
    MissingExtraError,
    StoreError,
)
from askonce.events import Event, Observer
from askonce.http import (
    HTTPCache,
    async_http_client,
    async_transport,
    cache_of,
    http_client,
    policy,
    transport,
)
from askonce.stores import open_store

if TYPE_CHECKING:
    from askonce.stores.adapters import adapt
    from askonce.stores.encrypted import encrypted
    from askonce.stores.tiered import tiered

__version__ = "0.1.0"

__all__ = [
    "AnswerError",
    "AskonceError",
    "EmbeddingCache",
    "Event",
    "HTTPCache",
    "InputError",
    "InputTypeError",
    "MissingExtraError",
    "Observer",
    "Store",
    "StoreError",
    "adapt",
    "async_http_client",
    "async_transport",
    "cache_of",
    "encrypted",
    "http_client",
    "open_store",
    "policy",
    "tiered",
    "transport",
]

# Not everybody has what these need, nor wants to wait for it.
_LATER = {
    "adapt": "askonce.stores.adapters",
    "encrypted": "askonce.stores.encrypted",
    "tiered": "askonce.stores.tiered",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LATER[name]), name)
