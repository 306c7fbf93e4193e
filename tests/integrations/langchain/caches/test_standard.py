"""LangChain's standard suites for caches, over every kind of store."""

import pytest
from langchain_tests.integration_tests import AsyncCacheTestSuite, SyncCacheTestSuite

from askonce.integrations.langchain import InMemoryCache, SQLiteCache, StoreCache

MAKERS = {
    "in-memory": lambda folder: InMemoryCache(),
    "in-memory-bounded": lambda folder: InMemoryCache(maxsize=3),
    "sqlite": lambda folder: SQLiteCache(str(folder / ".langchain.db")),
    "sqlite-in-memory": lambda folder: SQLiteCache(":memory:"),
    "store-memory": lambda folder: StoreCache("memory://"),
    "store-file": lambda folder: StoreCache(f"file:///{folder}/files"),
    "store-sqlite": lambda folder: StoreCache(f"sqlite:///{folder}/cache.db", ttl=60.0),
    "store-lmdb": lambda folder: StoreCache(f"lmdb:///{folder}/lmdb", namespace="Tenant: A"),
}


class TestSync(SyncCacheTestSuite):
    @pytest.fixture(params=MAKERS)
    def cache(self, tmp_path, request):
        cache = MAKERS[request.param](tmp_path)
        yield cache
        cache.close()


class TestAsync(AsyncCacheTestSuite):
    @pytest.fixture(params=MAKERS)
    async def cache(self, tmp_path, request):
        cache = MAKERS[request.param](tmp_path)
        yield cache
        cache.close()
