"""Ask a model once, keep the answer."""

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
    "async_http_client",
    "async_transport",
    "cache_of",
    "http_client",
    "open_store",
    "policy",
    "tiered",
    "transport",
]
