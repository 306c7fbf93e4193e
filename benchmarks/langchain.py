"""What caching costs in LangChain's own classes and in askonce's, side by side in one run.

The models are fake and answer at once with what was prepared, so that everything but the model
is measured. LangChain's side is what its guides tell people to write: `CacheBackedEmbeddings`
over `LocalFileStore` of `langchain_classic`, `InMemoryCache` of `langchain_core`, `SQLiteCache`
of `langchain_community`.

- **Warm read**: 1,000 passages of 100 words, all of them stored, in one call. Through LangChain's
  interface vectors leave as lists of floats, through `EmbeddingCache` as one numpy array.
- **Cold**: the same call when nothing is stored; a new store every round.
- **Bytes on disk**: the files of a closed store over the number of its vectors, against the bare
  float32 numbers. Allocated is what the file system spends, apparent what the files are long.
- **Hit**: `invoke` on a chat model whose answer is stored, 100 different prompts in turn.
- **Storing**: `update` of the cache with an answer of 1 kB, after the lookup that missed it.
  LangChain's time is mostly that of `fsync`, which this disk decides; askonce leaves the moment
  to the write-ahead log: a killed process loses nothing, a power cut may lose the last answers.
"""

import warnings
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import langchain_answers, langchain_embeddings
from benchmarks.frame import Contest

TITLE = "askonce and LangChain's own caches"
PACKAGES = (
    "langchain-core",
    "langchain-classic",
    "langchain-community",
    "SQLAlchemy",
    "lmdb",
    "numpy",
)
_WORK = Path(__file__).parent.parent / ".cache"


def contests() -> Iterator[Contest]:
    """Give the contests one after the other; their files live as long as each of them runs."""
    _WORK.mkdir(exist_ok=True)
    with (
        warnings.catch_warnings(action="ignore"),  # theirs warn on every hit
        TemporaryDirectory(prefix="bench-", dir=_WORK, ignore_cleanup_errors=True) as folder,
    ):
        yield from langchain_embeddings.contests(Path(folder))
        yield from langchain_answers.contests(Path(folder))
