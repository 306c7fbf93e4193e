"""The passages through a cached embedding model into a vector store.

Run as a module it does so once, in a process of its own, and writes what it saw as JSON.
"""

import dataclasses
import hashlib
import json
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings

from askonce import Store
from examples.demo.embedders import MODELS, CountedEmbeddings
from examples.demo.process import new_process


@dataclasses.dataclass
class Seen:
    """Hold what one run over all passages saw; `seconds` is embedding alone."""

    calls: int
    asked: int
    seconds: float
    model_seconds: float
    digest: str


class Witness(Embeddings):
    """Time the embedder that a vector store is given, and digest what it answers."""

    def __init__(self, embedder: Embeddings) -> None:
        self._embedder = embedder
        self.seconds = 0.0
        self.digest = ""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed documents and remember how long it took."""
        start = time.perf_counter()
        vectors = self._embedder.embed_documents(texts)
        self.seconds += time.perf_counter() - start
        self.digest = hashlib.sha256(np.array(vectors, np.float64).tobytes()).hexdigest()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """Embed a query."""
        return self._embedder.embed_query(text)


def index(
    documents: Sequence[Document], model: CountedEmbeddings, cached: Embeddings
) -> tuple[Seen, object]:
    """Put the documents into a FAISS index through a cached embedder."""
    from langchain_community.vectorstores import FAISS

    calls, texts, seconds = model.calls, model.texts, model.seconds
    witness = Witness(cached)
    found = FAISS.from_documents(list(documents), witness)
    seen = Seen(
        calls=model.calls - calls,
        asked=model.texts - texts,
        seconds=witness.seconds,
        model_seconds=model.seconds - seconds,
        digest=witness.digest,
    )
    return seen, found


def with_askonce(name: str, store: Store | str) -> tuple[CountedEmbeddings, Embeddings]:
    """Make the model, and askonce's cache around it."""
    from askonce.integrations.langchain import CacheBackedEmbeddings

    return _cached(CacheBackedEmbeddings, name, store)


def with_langchain(name: str, folder: Path) -> tuple[CountedEmbeddings, Embeddings]:
    """Make the model, and LangChain's own cache around it."""
    from langchain_classic.embeddings import CacheBackedEmbeddings
    from langchain_classic.storage import LocalFileStore

    return _cached(CacheBackedEmbeddings, name, LocalFileStore(folder))


def _cached(wrapper: Any, name: str, store: Any) -> tuple[CountedEmbeddings, Embeddings]:
    embed = MODELS[name]()
    model = CountedEmbeddings(embed)
    cached = wrapper.from_bytes_store(
        model, store, namespace=f"{embed.name}/", key_encoder="sha256"
    )
    return model, cached


def in_new_process(name: str, url: str) -> Seen:
    """Do one run with askonce in a process of its own."""
    return Seen(**new_process(__name__, name, url))


def sizes(path: Path) -> tuple[int, int]:
    """Add up a file with its companions, or a folder: bytes in files, bytes of disk blocks."""
    files = path.rglob("*") if path.is_dir() else path.parent.glob(path.name + "*")
    found = [file.stat() for file in files if file.is_file()]
    return sum(one.st_size for one in found), sum(one.st_blocks * 512 for one in found)


def main(name: str, url: str) -> None:
    """Do one run and write what it saw."""
    from examples.demo import corpus

    documents = corpus.load()
    seen, _ = index(documents, *with_askonce(name, url))
    print(json.dumps(dataclasses.asdict(seen)))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(*sys.argv[1:])
