"""Warm reads: against the limit, against other caches, through LangChain's lists."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

import askonce
from askonce.integrations.langchain import CacheBackedEmbeddings
from benchmarks import samples
from benchmarks.embeddings_peers import LANGCHAIN, PEERS, Prepared, opened_peers
from benchmarks.frame import Comparison, Contender, Contest

COUNT = 20_000
FEW = 1_000
LISTS = 5_000
CHARACTERS = 1_100
LIMIT = "the limit: digests and take"
LMDB = "EmbeddingCache, lmdb"
SQLITE = "EmbeddingCache, sqlite"
GOALS = {  # times the limit, times less than LangChain
    1536: {LMDB: (1.6, 100), SQLITE: (3, 100)},
    384: {LMDB: (2, 40), SQLITE: (3.5, 40)},
}


def contests(folder: Path) -> Iterator[Contest]:
    texts = samples.texts(COUNT, characters=CHARACTERS)
    order = np.random.default_rng(samples.SEED).permutation(COUNT)
    wanted = [texts[place] for place in order]
    for dimensions in (1536, 384):
        rows = samples.vectors(COUNT, dimensions)
        model = Prepared(texts, rows)
        caches = {
            name: _filled(model, texts, url.format(folder / str(dimensions)))
            for name, url in ((LMDB, "lmdb:///{}-lmdb"), (SQLITE, "sqlite:///{}.db"))
        }
        read: dict[str, Callable[[Sequence[str]], object]] = {
            name: cache.embed for name, cache in caches.items()
        }
        with opened_peers(model, wanted[:FEW], folder / f"{dimensions}-peers") as peers:
            for name, embed in (read | peers).items():
                few = np.asarray(embed(wanted[:FEW]), np.float32)
                assert np.array_equal(few, rows[order[:FEW]]), name
            yield _warm(rows, order, wanted, read, peers)
        yield _lists(model, texts, wanted[:LISTS], caches, folder / f"{dimensions}-lists")
        for cache in caches.values():
            cache.close()


def _filled(model: Prepared, texts: Sequence[str], url: str) -> askonce.EmbeddingCache:
    """Fill a store, and open it anew as the next process would."""
    for _ in range(2):
        cache = askonce.EmbeddingCache(model.array, model="model", store=url, batch_size=1000)
        cache.embed(texts)
        if model.asked:
            cache.close()
            model.asked = 0
    return cache


def _warm(rows, order, wanted, read, peers) -> Contest:
    dimensions = rows.shape[1]

    def limit(_: object) -> object:
        for text in wanted:
            hashlib.sha256(text.encode()).digest()
        return np.take(rows, order, axis=0)

    contenders = [Contender(LIMIT, limit)]
    contenders += [Contender(name, _work(embed, wanted)) for name, embed in read.items()]
    contenders += [
        Contender(name, _work(embed, wanted[:FEW]), share=FEW / COUNT)
        for name, embed in peers.items()
    ]
    comparisons = []
    for name, (times_the_limit, times_less) in GOALS[dimensions].items():
        comparisons.append(Comparison(name, LIMIT, 1 / times_the_limit))
        comparisons += [
            Comparison(name, peer, times_less if peer == LANGCHAIN else 5) for peer in PEERS
        ]
    return Contest(
        f"warm read, {dimensions:,} dimensions",
        "µs per vector",
        contenders,
        comparisons,
        units=COUNT,
    )


def _lists(model, texts, wanted, caches, folder) -> Contest:
    contenders = []
    comparisons = []
    for name, cache in caches.items():
        engine = name.rpartition(" ")[2]
        url = f"{engine}:///{folder}-{engine}"
        lists = CacheBackedEmbeddings.from_bytes_store(model, url, namespace="model")
        lists.embed_documents(texts)
        assert lists.embed_documents(wanted) == cache.embed(wanted).tolist()
        both = f"read and tolist, {engine}"
        contenders.append(Contender(both, lambda _, cache=cache: cache.embed(wanted).tolist()))
        ours = f"CacheBackedEmbeddings, {engine}"
        contenders.append(Contender(ours, _work(lists.embed_documents, wanted)))
        comparisons.append(Comparison(ours, both, 1 / 1.3))
    return Contest(
        f"LangChain's lists, {model.rows.shape[1]:,} dimensions",
        "µs per vector",
        contenders,
        comparisons,
        units=len(wanted),
    )


def _work(embed, texts: Sequence[str]) -> Callable[[object], object]:
    return lambda _: embed(texts)
