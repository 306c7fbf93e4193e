"""What a vector takes on disk, what the lossy codecs of `EmbeddingCache` save, what they lose.

- **Neighbours lost**: the sentences of examples/data/addresses.txt are embedded by a real model
  (WordLlama, 256 dimensions) through a cache of each codec and searched for the ten nearest of
  each of its paragraphs, the queries, by inner product, all of them compared (a flat index). Lost
  is what the ten lack of the ten found with the model's own vectors: 100 % less recall@10.
  Queries go through the same cache, as they would.
- **Bytes on disk**: what the file system gave the files of a closed store, over the number of its
  vectors, 5,000, stored a hundred at once. By store they are lossless, by codec in SQLite.
- **Warm read** and **storing**: everything but the model, through SQLite, in one call.
"""

import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

import askonce
from benchmarks import samples
from benchmarks.frame import Comparison, Contender, Contest
from examples.demo.corpus import PATH
from examples.demo.embedders import WordLlama

TITLE = "Space: stores and lossy codecs"
PACKAGES = ("numpy", "wordllama", "tokenizers")
CODECS = ("lossless", "float16", "int8")
COUNT = 5000
NEAREST = 10
_SENTENCE = re.compile(r"(?<=[.?!;])\s+")
_SHORTEST = 40
_WORK = Path(__file__).parent.parent / ".cache"
_FEWER = {"float16": 1.5, "int8": 2}
URLS = {"sqlite": "sqlite:///{}/cache.db", "lmdb": "lmdb:///{}", "file": "file:///{}"}
RAW = "float32 numbers"

Embed = Callable[[list[str]], NDArray[np.float32]]


def contests() -> Iterator[Contest]:
    """Give the contests one after the other; their files live as long as each of them runs."""
    _WORK.mkdir(exist_ok=True)
    with TemporaryDirectory(prefix="bench-", dir=_WORK, ignore_cleanup_errors=True) as folder:
        yield _recall()
        for dimensions in (384, 1536):
            yield _sizes(Path(folder), dimensions)
        for dimensions in (384, 1536):
            yield from _costs(Path(folder), dimensions)


def _recall() -> Contest:
    paragraphs = [text for text in PATH.read_text("ascii").split("\n\n") if len(text) > 100]
    parts = itertools.chain.from_iterable(map(_SENTENCE.split, paragraphs))
    sentences = list(dict.fromkeys(part for part in parts if len(part) >= _SHORTEST))
    model = WordLlama()
    truth = _nearest(model, sentences, paragraphs)

    def lost(contender: Contender) -> float:
        cache = askonce.EmbeddingCache(
            model, model=model.name, store="memory://", codec=contender.name
        )
        found = _nearest(cache.embed, sentences, paragraphs)
        kept = [len(np.intersect1d(*rows)) for rows in zip(truth, found, strict=True)]
        return NEAREST - sum(kept) / len(kept)

    return Contest(
        f"neighbours lost of {NEAREST}, {len(paragraphs):,} queries in {len(sentences):,} sentences",
        "% of them",
        [Contender(codec, lambda _: None) for codec in CODECS],
        [],
        units=NEAREST,
        scale=100,
        rounds=1,
        measure=lost,
    )


def _nearest(embed: Embed, sentences: list[str], queries: list[str]) -> NDArray[np.intp]:
    similar = embed(queries) @ embed(sentences).T
    return np.argpartition(-similar, NEAREST, axis=1)[:, :NEAREST]


def _sizes(folder: Path, dimensions: int) -> Contest:
    def taken(contender: Contender) -> float:
        if contender.name == RAW:
            return COUNT * dimensions * 4
        return _taken(folder, URLS[contender.name], dimensions, "lossless")

    return Contest(
        f"bytes on disk by store, {dimensions:,} dimensions",
        "bytes per vector",
        [Contender(name, lambda _: None) for name in (RAW, *URLS)],
        [Comparison(name, RAW) for name in URLS],
        units=COUNT,
        scale=1,
        rounds=1,
        measure=taken,
    )


def _taken(folder: Path, url: str, dimensions: int, codec: str) -> float:
    """Fill a new store and tell what it takes of the disk."""
    with TemporaryDirectory(dir=folder) as place:
        rows = iter(np.split(samples.vectors(COUNT, dimensions), COUNT // 100))
        cache = askonce.EmbeddingCache(
            lambda _: next(rows), model="prepared", store=url.format(place), codec=codec
        )
        cache.embed(samples.passages(COUNT))
        cache.close()
        return sum(file.stat().st_blocks * 512 for file in Path(place).rglob("*"))


def _costs(folder: Path, dimensions: int) -> Iterator[Contest]:
    texts = samples.passages(COUNT)
    rows = samples.vectors(COUNT, dimensions)
    serial = itertools.count()

    def fresh(codec: str) -> askonce.EmbeddingCache:
        return askonce.EmbeddingCache(
            lambda some: rows[: len(some)],
            model="prepared",
            store=f"sqlite:///{folder}/{codec}-{dimensions}-{next(serial)}.db",
            codec=codec,
            batch_size=COUNT,
        )

    fewer = [Comparison(codec, "lossless", _FEWER[codec]) for codec in CODECS[1:]]
    yield Contest(
        f"bytes on disk by codec, {dimensions:,} dimensions",
        "bytes per vector",
        [Contender(codec, lambda _: None) for codec in CODECS],
        fewer,
        units=COUNT,
        scale=1,
        rounds=1,
        measure=lambda contender: _taken(folder, URLS["sqlite"], dimensions, contender.name),
    )
    warm = {codec: fresh(codec) for codec in CODECS}
    for cache in warm.values():
        cache.embed(texts)
    yield Contest(
        f"warm read, {dimensions:,} dimensions",
        "µs per vector",
        [
            Contender(codec, lambda _, cache=cache: cache.embed(texts))
            for codec, cache in warm.items()
        ],
        [Comparison(codec, "lossless") for codec in CODECS[1:]],
        units=COUNT,
    )
    yield Contest(
        f"storing, {dimensions:,} dimensions",
        "µs per vector",
        [
            Contender(codec, lambda cache: cache.embed(texts), lambda codec=codec: fresh(codec))
            for codec in CODECS
        ],
        [Comparison(codec, "lossless") for codec in CODECS[1:]],
        units=COUNT,
    )
