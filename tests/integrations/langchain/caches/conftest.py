"""Fixtures: a cache over each kind of store."""

import pytest

from askonce.integrations.langchain import InMemoryCache, SQLiteCache, StoreCache


@pytest.fixture(params=["memory", "sqlite", "file", "lmdb"])
def cache(request, tmp_path):
    cache = {
        "memory": lambda: InMemoryCache(),
        "sqlite": lambda: SQLiteCache(tmp_path / "answers.db"),
        "file": lambda: StoreCache(f"file:///{tmp_path}/files"),
        "lmdb": lambda: StoreCache(f"lmdb:///{tmp_path}/lmdb"),
    }[request.param]()
    yield cache
    cache.close()
