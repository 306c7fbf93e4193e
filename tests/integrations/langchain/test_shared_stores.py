"""LangChain's standard suites over the stores that hosts share, tiered and encrypted, too."""

import itertools
import secrets
import urllib.parse

import pytest
from langchain_tests.integration_tests import (
    AsyncCacheTestSuite,
    BaseStoreAsyncTests,
    BaseStoreSyncTests,
    SyncCacheTestSuite,
)

import askonce
from askonce.integrations.langchain import StoreByteStore, StoreCache
from tests.servers.postgres import postgres
from tests.servers.redis import give_redis
from tests.servers.s3 import s3

__all__ = ["give_redis", "postgres", "s3"]

LONG = "lookup_timeout=30&timeout=30"
SERVERS = ["redis6", "redis8", "valkey9", "cluster", "postgres", "s3"]
LAYERS = ["bare", "tiered", "encrypted"]
_numbers = itertools.count()


@pytest.fixture(params=list(itertools.product(SERVERS, LAYERS)), ids="-".join)
def shared(request):
    """Open a store that is empty."""
    server, layer = request.param
    if server == "postgres":
        table = f"suite_{next(_numbers)}"
        url = request.getfixturevalue("postgres").url(table=table, lookup_timeout=30, timeout=30)
    elif server == "s3":
        running = request.getfixturevalue("s3")
        bucket = running.make_bucket(f"suite-{next(_numbers)}-{secrets.token_hex(4)}")
        url = running.url(bucket, lookup_timeout="30", timeout="30")
    else:
        url = request.getfixturevalue("give_redis")(server).url(f"?{LONG}")
    if layer == "tiered":
        store = askonce.open_store(f"tiered+memory://?far={urllib.parse.quote(url, safe='')}")
    elif layer == "encrypted":
        store = askonce.encrypted(url, keys=secrets.token_bytes(32))
    else:
        store = askonce.open_store(url)
    yield store
    store.close()


class TestCache(SyncCacheTestSuite):
    @pytest.fixture
    def cache(self, shared):
        return StoreCache(shared)


class TestCacheInTasks(AsyncCacheTestSuite):
    @pytest.fixture
    async def cache(self, shared):
        return StoreCache(shared)


class Values:
    @pytest.fixture
    def three_values(self) -> tuple[bytes, bytes, bytes]:
        return b"foo", b"\x00\xff", b""


class TestByteStore(Values, BaseStoreSyncTests[bytes]):
    @pytest.fixture
    def kv_store(self, shared):
        return StoreByteStore(shared)


class TestByteStoreInTasks(Values, BaseStoreAsyncTests[bytes]):
    @pytest.fixture
    async def kv_store(self, shared):
        return StoreByteStore(shared)
