"""Fixtures: a cache for nodes over each kind of store."""

import pytest

from askonce.integrations.langgraph import NodeCache


@pytest.fixture(params=["memory", "sqlite", "file", "lmdb"])
def cache(request, tmp_path):
    cache = NodeCache(
        {
            "memory": "memory://",
            "sqlite": f"sqlite:///{tmp_path}/nodes.db",
            "file": f"file:///{tmp_path}/files",
            "lmdb": f"lmdb:///{tmp_path}/lmdb",
        }[request.param]
    )
    yield cache
    cache.close()
