"""LangChain's caches and stores on askonce, on `langchain-core` alone."""

from askonce.errors import MissingExtraError

try:
    import langchain_core as _langchain_core
except ImportError as error:
    raise MissingExtraError(
        "langchain-core", "langchain", "askonce.integrations.langchain"
    ) from error

from askonce.integrations.langchain.adapter import ByteStoreAdapter
from askonce.integrations.langchain.byte_stores import (
    InMemoryByteStore,
    LocalFileStore,
    SQLiteByteStore,
    StoreByteStore,
)
from askonce.integrations.langchain.cached import cached
from askonce.integrations.langchain.caches import InMemoryCache, SQLiteCache, StoreCache
from askonce.integrations.langchain.embeddings import CacheBackedEmbeddings

del _langchain_core

__all__ = [
    "ByteStoreAdapter",
    "CacheBackedEmbeddings",
    "InMemoryByteStore",
    "InMemoryCache",
    "LocalFileStore",
    "SQLiteByteStore",
    "SQLiteCache",
    "StoreByteStore",
    "StoreCache",
    "cached",
]
