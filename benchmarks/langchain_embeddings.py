"""Embeddings: warm reads, cold overhead, bytes on disk."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

from langchain_classic.embeddings import CacheBackedEmbeddings as TheirCacheBackedEmbeddings
from langchain_classic.storage import LocalFileStore as TheirLocalFileStore
from langchain_core.embeddings import Embeddings

import askonce
from askonce.integrations.langchain import CacheBackedEmbeddings, LocalFileStore
from benchmarks import samples
from benchmarks.frame import Comparison, Contender, Contest

COUNT = 1000
THEIRS = "LangChain, LocalFileStore"
LISTS_FILE = "askonce lists, LocalFileStore"
LISTS_SQLITE = "askonce lists, sqlite"
ARRAY_SQLITE = "EmbeddingCache, sqlite"
ARRAY_LMDB = "EmbeddingCache, lmdb"
RAW = "float32 numbers"
OURS = (LISTS_FILE, LISTS_SQLITE, ARRAY_SQLITE, ARRAY_LMDB)

Embed = Callable[[list[str]], object]


class Prepared(Embeddings):
    """Answer at once, with lists of floats or as an array."""

    def __init__(self, dimensions: int) -> None:
        self.texts = samples.passages(COUNT)
        self.rows = samples.vectors(COUNT, dimensions)
        self._lists = dict(zip(self.texts, self.rows.tolist(), strict=True))
        self._places = {text: place for place, text in enumerate(self.texts)}

    def embed_documents(self, texts):
        return [self._lists[text] for text in texts]

    def embed_query(self, text):
        return self._lists[text]

    def array(self, texts):
        return self.rows[[self._places[text] for text in texts]]


def contests(folder: Path) -> Iterator[Contest]:
    for dimensions in (384, 1536):
        model = Prepared(dimensions)
        serial = itertools.count()

        def fresh(name: str, model=model, serial=serial, dimensions=dimensions) -> Embed:
            return _opened(name, model, folder / f"{dimensions}-{next(serial)}")

        warm = {name: fresh(name) for name in (THEIRS, *OURS)}
        for embed in warm.values():
            embed(model.texts)
        yield Contest(
            f"warm read, {dimensions:,} dimensions",
            "µs per vector",
            [Contender(name, _work(model, embed)) for name, embed in warm.items()],
            [
                Comparison(LISTS_FILE, THEIRS, 6),
                Comparison(LISTS_SQLITE, THEIRS, 6),
                Comparison(ARRAY_SQLITE, THEIRS, 80),
                Comparison(ARRAY_LMDB, THEIRS, 80),
            ],
            units=COUNT,
        )
        yield Contest(
            f"cold, {dimensions:,} dimensions",
            "µs per vector",
            [
                Contender(
                    name, lambda embed, model=model: embed(model.texts), _prepare(fresh, name)
                )
                for name in (THEIRS, *OURS)
            ],
            [
                Comparison(LISTS_FILE, THEIRS),
                Comparison(LISTS_SQLITE, THEIRS, 10),
                Comparison(ARRAY_SQLITE, THEIRS, 10),
                Comparison(ARRAY_LMDB, THEIRS),
            ],
            units=COUNT,
        )
    yield from _sizes(folder)


def _work(model: Prepared, embed: Embed) -> Callable[[object], object]:
    return lambda _: embed(model.texts)


def _prepare(fresh: Callable[[str], Embed], name: str) -> Callable[[], Embed]:
    return lambda: fresh(name)


def _opened(name: str, model: Prepared, path: Path) -> Embed:
    """Open the cache of this name over new files below `path`."""
    if name == THEIRS:
        return TheirCacheBackedEmbeddings.from_bytes_store(
            model, TheirLocalFileStore(path), namespace="model"
        ).embed_documents
    if name == LISTS_FILE:
        return CacheBackedEmbeddings.from_bytes_store(
            model, LocalFileStore(path), namespace="model"
        ).embed_documents
    if name == LISTS_SQLITE:
        return CacheBackedEmbeddings.from_bytes_store(
            model, f"sqlite:///{path / 'cache.db'}", namespace="model"
        ).embed_documents
    url = f"sqlite:///{path / 'cache.db'}" if name == ARRAY_SQLITE else f"lmdb:///{path}"
    return askonce.EmbeddingCache(model.array, model="model", store=url).embed


def _sizes(folder: Path) -> Iterator[Contest]:
    dimensions = 1536
    model = Prepared(dimensions)
    stores: dict[str, tuple[Path, Embed, Callable[[], None]]] = {}
    for name, url in (
        ("askonce, sqlite", "sqlite:///{}/cache.db"),
        ("askonce, lmdb", "lmdb:///{}"),
    ):
        path = folder / f"size-{name[-4:]}"
        store = askonce.open_store(url.format(path))
        cached = CacheBackedEmbeddings.from_bytes_store(model, store, namespace="model")
        stores[name] = (path, cached.embed_documents, store.close)
    for name in (LISTS_FILE, THEIRS):
        path = folder / f"size-{name[:3]}"
        stores[name] = (path, _opened(name, model, path), lambda: None)
    for _, embed, close in stores.values():
        embed(model.texts)
        close()

    for kind, measure in (("allocated", _allocated), ("apparent", _apparent)):

        def size(contender: Contender, measure=measure) -> float:
            if contender.name == RAW:
                return model.rows.nbytes
            path = stores[contender.name][0]
            return sum(measure(file) for file in [path, *path.rglob("*")])

        yield Contest(
            f"bytes on disk ({kind}), {dimensions:,} dimensions",
            "bytes per vector",
            [Contender(name, lambda _: None) for name in (RAW, *stores)],
            [
                Comparison("askonce, sqlite", RAW, 1 / 1.15),
                Comparison("askonce, lmdb", RAW),
                Comparison(LISTS_FILE, RAW),
                Comparison(THEIRS, RAW),
            ],
            units=COUNT,
            scale=1,
            rounds=1,
            measure=size,
        )


def _allocated(file: Path) -> int:
    return file.stat().st_blocks * 512


def _apparent(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0
