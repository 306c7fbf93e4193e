"""What a batch of vectors costs from stores that hosts share, and from a near tier before one.

- **Batch read**: 1,000 entries with vectors of 1,536 dimensions, by `read` of the store, against
  the bare client's `MGET`, `SELECT` or `GET` of the same bytes from the same server; of an object
  store, against one object that holds the same bytes. A look-up there also lists what is new, side by
  side with that; what both requests take the bare client, also side by side, is shown as well.
- **Peers**: the same vectors by their texts, from a Redis: `EmbeddingCache` against RedisVL's
  `EmbeddingsCache` and LangChain's `CacheBackedEmbeddings` over its `RedisStore`.
- **Near tier**: the same texts when all of them are near, against the near store alone.

The servers are real ones on this machine: Redis 8, Valkey 9, three masters of a cluster, Postgres
18, and moto for S3. It is written in Python and does one thing at a time, so its own time is most of
what is told of it, and two requests side by side take about as long as one after the other. So it is
measured once more as if it was 10 ms away, each way; services are about that far.
"""

import asyncio
import contextlib
import functools
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import obstore
import psycopg
import redis
from langchain_classic.embeddings import CacheBackedEmbeddings
from langchain_community.storage import RedisStore
from langchain_core.embeddings import Embeddings
from redisvl.extensions.cache.embeddings import EmbeddingsCache

import askonce
from benchmarks import samples
from benchmarks.distance import distant
from benchmarks.frame import Comparison, Contender, Contest
from tests.servers.postgres import PostgresServer, binaries
from tests.servers.redis import PROGRAMS, RedisCluster, RedisServer
from tests.servers.s3 import S3Server

TITLE = "Stores that hosts share"
PACKAGES = (
    "redis",
    "psycopg",
    "obstore",
    "redisvl",
    "langchain-classic",
    "langchain-community",
    "numpy",
)
COUNT = 1000
DIMENSIONS = 1536
_WORK = Path(__file__).parent.parent / ".cache"
_LONG = "lookup_timeout=30&timeout=60"
"""A deadline is not what is measured here."""
_AWAY = 0.01

BARE = "bare client"
Read = Callable[[], object]


class Prepared(Embeddings):
    """Answer with prepared rows."""

    def __init__(self, texts: list[str], rows) -> None:
        self._rows = dict(zip(texts, rows, strict=True))

    def array(self, texts):
        return np.stack([self._rows[text] for text in texts])

    def embed_documents(self, texts):
        return self.array(texts).tolist()

    def embed_query(self, text):
        return self.embed_documents([text])[0]


def contests() -> Iterator[Contest]:
    """Give the contests one after the other; their servers live until the last is over."""
    _WORK.mkdir(exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings(action="ignore"))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=_WORK)))
        texts = samples.texts(COUNT, characters=600)
        model = Prepared(texts, samples.vectors(COUNT, DIMENSIONS))
        stores = dict(_stores(stack))
        entries = _entries(texts, model)
        for name, (url, bare) in stores.items():
            store = stack.enter_context(askonce.open_store(url))
            store.write(entries)
            yield _batch_read(name, store, bare(stack, entries), list(entries))
        yield _peers(stack, stores["Redis 8"][0], texts, model)
        yield from _near(stack, stores["Redis 8"][0], texts, model, folder)


def _entries(texts: list[str], model: Prepared) -> dict[str, bytes]:
    """Give the entries that a cache makes of these texts."""
    with askonce.open_store("memory://") as store:
        askonce.EmbeddingCache(model.array, model="prepared", store=store).embed(texts)
        keys = list(store.keys())
        return {key: blob for key, blob in zip(keys, store.read(keys), strict=True) if blob}


def _batch_read(name: str, store: askonce.Store, bare: dict[str, Read], keys: list[str]) -> Contest:
    ours, theirs = f"askonce, {name}", [f"{name}, {what}" for what in bare]

    def read(_: object) -> None:
        assert None not in store.read(keys)

    return Contest(
        f"Batch read, {name}",
        "ms per batch",
        [
            *(
                Contender(title, lambda _, work=work: work())
                for title, work in zip(theirs, bare.values(), strict=True)
            ),
            Contender(ours, read),
        ],
        [Comparison(ours, theirs[0], 1 / 1.3), *(Comparison(ours, one) for one in theirs[1:])],
        scale=1e3,
    )


def _stores(stack: ExitStack) -> Iterator[tuple[str, tuple[str, Callable[..., dict[str, Read]]]]]:
    """Start the servers; give each one's URL, and what reads the same bytes without askonce."""
    for name, program in (("Redis 8", "redis8"), ("Valkey 9", "valkey9")):
        server = RedisServer(PROGRAMS[program])
        stack.callback(server.remove)
        server.start()
        yield name, (server.url(f"/0?{_LONG}"), _mget(server.client()))
    cluster = RedisCluster(PROGRAMS["redis8"])
    stack.callback(cluster.remove)
    cluster.start()
    client = redis.RedisCluster(host="127.0.0.1", port=cluster.nodes[0].port)
    yield "Redis cluster", (cluster.url(f"/?{_LONG}"), _mget(client))
    postgres = PostgresServer(binaries()["18"])
    stack.callback(postgres.remove)
    postgres.start()
    url = postgres.url(lookup_timeout=30, timeout=60)
    yield "Postgres 18", (url, lambda stack, entries: _select(stack, postgres.url(), entries))
    s3 = S3Server()
    stack.callback(s3.stop)
    os.environ |= {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"}
    far = stack.enter_context(distant(s3.port, _AWAY))
    for name, port in (("S3", s3.port), (f"S3, {_AWAY * 1e3:g} ms away", far)):
        bucket = s3.make_bucket(f"bench-{port}")
        url = f"s3://{bucket}?endpoint=http://127.0.0.1:{port}&allow_http=true&{_LONG}"
        yield name, (url, functools.partial(_get, port, bucket))


def _mget(client: redis.Redis | redis.RedisCluster) -> Callable[..., dict[str, Read]]:
    def bare(stack: ExitStack, entries: dict[str, bytes]) -> dict[str, Read]:
        stack.enter_context(contextlib.closing(client))
        names = [f"bare:{key}" for key in entries]
        if isinstance(client, redis.RedisCluster):
            client.mset_nonatomic(dict(zip(names, entries.values(), strict=True)))
            return {BARE: lambda: client.mget_nonatomic(names)}
        client.mset(dict(zip(names, entries.values(), strict=True)))
        return {BARE: lambda: client.mget(names)}

    return bare


def _select(stack: ExitStack, url: str, entries: dict[str, bytes]) -> dict[str, Read]:
    connection = stack.enter_context(psycopg.connect(url, autocommit=True))
    connection.execute("CREATE TABLE bare (key text PRIMARY KEY, value bytea STORAGE EXTERNAL)")
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO bare VALUES (%s, %s)", list(entries.items()))
    keys = list(entries)
    select = "SELECT key, value FROM bare WHERE key = ANY(%s)"
    return {BARE: lambda: connection.execute(select, (keys,), binary=True).fetchall()}


def _get(port: int, bucket: str, _: ExitStack, entries: dict[str, bytes]) -> dict[str, Read]:
    store = obstore.store.S3Store(
        bucket,
        endpoint=f"http://127.0.0.1:{port}",
        region="us-east-1",
        client_options={"allow_http": True},
    )
    obstore.put(store, "bare", b"".join(entries.values()))

    async def list_and_get() -> None:
        listing = store.list("askonce/log").collect_async()
        _, found = await asyncio.gather(listing, obstore.get_async(store, "bare"))
        # Not returned: asyncio.run writes what a task returned into a message, all of it.
        (await found.bytes_async()).to_bytes()

    return {
        BARE: lambda: obstore.get(store, "bare").bytes().to_bytes(),
        "bare client, a list besides": lambda: asyncio.run(list_and_get()),
    }


def _peers(stack: ExitStack, url: str, texts: list[str], model: Prepared) -> Contest:
    ours = askonce.EmbeddingCache(
        model.array, model="peers", store=stack.enter_context(askonce.open_store(url))
    )
    port = int(url.split(":")[2].split("/")[0])
    client = redis.Redis(port=port)
    stack.enter_context(contextlib.closing(client))
    theirs = EmbeddingsCache(redis_client=client)
    theirs.mset(
        [
            {"content": text, "model_name": "peers", "embedding": vector}
            for text, vector in zip(texts, model.embed_documents(texts), strict=True)
        ]
    )
    langchain = CacheBackedEmbeddings.from_bytes_store(
        model, RedisStore(client=client, namespace="lc"), namespace="m", key_encoder="sha256"
    )
    langchain.embed_documents(texts)
    ours.embed(texts)
    peers = {
        "RedisVL": lambda: theirs.mget(texts, "peers"),
        "LangChain, RedisStore": lambda: langchain.embed_documents(texts),
    }
    name = "EmbeddingCache, Redis 8"
    return Contest(
        "The same vectors by their texts",
        "ms per batch",
        [
            *(Contender(peer, lambda _, read=read: read()) for peer, read in peers.items()),
            Contender(name, lambda _: ours.embed(texts)),
        ],
        [Comparison(name, peer, 5) for peer in peers],
        scale=1e3,
    )


def _near(
    stack: ExitStack, url: str, texts: list[str], model: Prepared, folder: Path
) -> Iterator[Contest]:
    for name, near in (
        ("memory", "memory://?max_bytes=64MB"),
        ("sqlite", "sqlite:///{path}.db"),
    ):
        alone = askonce.open_store(near.format(path=folder / "alone"))
        before = askonce.open_store(near.format(path=folder / "near"))
        tiers = askonce.tiered(before, askonce.open_store(url))
        caches = {}
        for title, store in ((f"{name} alone", alone), (f"{name} before Redis 8", tiers)):
            stack.enter_context(store)
            caches[title] = askonce.EmbeddingCache(model.array, model="near", store=store)
            caches[title].embed(texts)
        yield Contest(
            f"Near tier, {name}",
            "ms per batch",
            [
                Contender(title, lambda _, cache=cache: cache.embed(texts))
                for title, cache in caches.items()
            ],
            [Comparison(f"{name} before Redis 8", f"{name} alone", 1 / 1.2)],
            scale=1e3,
        )
