"""What the bulk job costs besides the model, and what being killed costs it.

The corpus is prose: the different paragraphs of 120 to 600 characters of the documentation of
Linux 6.1 and Python 3.11, as Debian packages it.

- **Overhead**: the corpus as JSON Lines through a model that answers at once with 384 dimensions,
  into Parquet, with an SQLite store. The job reads everything twice, once to plan. Reading, planning,
  writing and the bare cache (`embed_iter` with the same batches and threads) are parts of it.
- **Killed**: the same corpus through a real embedder (WordLlama, 256 dimensions). The command is
  killed 20 times by SIGKILL, at moments drawn at random from all of its life, and started again each
  time. Texts that were asked for but not yet stored when it died are asked for again: at most two
  batches being asked for and two being stored. No stored text may be, and every file must be that of a run that
  nobody disturbed, to the last byte; the benchmark fails otherwise. What a killed job had claimed
  is waited for until its lease ends, ten seconds after the kill.
"""

import functools
import hashlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import askonce
from askonce.bulk import Corpus, Job, plan
from askonce.bulk.models import Model
from askonce.bulk.output import Output
from askonce.bulk.passages import Reading
from askonce.bulk.stopping import Brake
from askonce.bulk.writers import open_writer
from askonce.providers import cache
from benchmarks import bulk_kills, documentation
from benchmarks.frame import Comparison, Contender, Contest

TITLE = "The bulk job"
PACKAGES = ("numpy", "pyarrow", "orjson")
DIMENSIONS = 384
BATCH = 256
AT_ONCE = 2
JOB = "the job, nothing stored"
AGAIN = "the job, all stored"
CACHE = "embed_iter, nothing stored"
KILLS = 20
_WORK = Path(__file__).parent.parent / ".cache"


class Instant:
    """Answer at once."""

    model = "instant"
    dimensions = None
    parameters = {}

    def __init__(self) -> None:
        rows = np.random.default_rng(0).standard_normal((BATCH, DIMENSIONS))
        self._rows = rows.astype(np.float32)

    def __call__(self, texts):
        return self._rows[: len(texts)]


def contests() -> Iterator[Contest]:
    """Give the contests one after the other; their files live as long as each of them runs."""
    _WORK.mkdir(exist_ok=True)
    texts = documentation.passages()
    with TemporaryDirectory(prefix="bench-", dir=_WORK, ignore_cleanup_errors=True) as folder:
        path = Path(folder, "corpus.jsonl")
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        yield _overhead(path, texts)
        yield _killed(path, texts)


def _overhead(path: Path, texts: list[str]) -> Contest:
    model = Model(Instant(), BATCH, AT_ONCE, is_local=False, price=None)
    corpus = Corpus.of([str(path)], Reading(), stdin=None)
    serial = itertools.count()

    def new_store() -> askonce.Store:
        return askonce.open_store(f"sqlite:///{path.parent}/{next(serial)}.db")

    def look(store):
        found = cache(model.embedder, store)
        rows = corpus.rows()
        return plan(rows, found, model, Brake(), batch_size=BATCH, tick=lambda count: None)

    def run(store) -> None:
        with Output(path.parent / "out") as output:
            job = Job(
                model, store, look(store), Brake(), namespace="", batch_size=BATCH, at_once=AT_ONCE
            )
            outcome = job.run(corpus.rows(), output, "parquet", lambda outcome: None)
        assert outcome.embedded == len(texts)

    def read(store) -> None:
        for _ in range(2):
            for _ in corpus.rows():
                pass

    def iterate(store) -> None:
        vectors = cache(model.embedder, store, batch_size=BATCH)
        for _ in vectors.embed_iter(texts, window=BATCH, at_once=2 * AT_ONCE):
            pass

    rows = np.resize(model.embedder._rows, (len(texts), DIMENSIONS))
    hashes = [hashlib.sha256(text.encode()).hexdigest() for text in texts]

    def write(store) -> None:
        with Output(path.parent / "out") as output:
            writer = open_writer("parquet", output, DIMENSIONS)
            for start in range(0, len(texts), BATCH):
                part = slice(start, start + BATCH)
                writer.write(hashes[part], hashes[part], rows[part])
            output.complete(writer.close(), {})

    full = new_store()
    run(full)
    return Contest(
        f"overhead, {len(texts):,} passages",
        "µs per passage",
        [
            Contender("reading twice", read, lambda: None),
            Contender("writing the files", write, lambda: None),
            Contender("the plan, nothing stored", look, new_store),
            Contender("the plan, all stored", look, lambda: full),
            Contender(CACHE, iterate, new_store),
            Contender(JOB, run, new_store),
            Contender(AGAIN, run, lambda: full),
        ],
        [Comparison(JOB, CACHE), Comparison(AGAIN, JOB)],
        units=len(texts),
        rounds=5,
    )


def _killed(path: Path, texts: list[str]) -> Contest:
    found = functools.cache(lambda: bulk_kills.run(path, texts, kills=KILLS))
    names = {
        "in the corpus": lambda: len(texts),
        "asked for in all": lambda: found().asked,
        "stored, and asked for again": lambda: found().asked_though_stored,
        "embedded differently": lambda: found().different,
        "rows without a vector": lambda: found().missing,
    }
    # Asked for but not stored at each kill: as many batches as there are threads.
    most = (len(texts) + KILLS * BATCH * 2 * AT_ONCE) / len(texts)
    return Contest(
        f"killed {KILLS} times",
        "passages",
        [Contender(name, lambda _: None) for name in names],
        [Comparison("asked for in all", "in the corpus", 1 / most)],
        scale=1,
        rounds=1,
        measure=lambda contender: names[contender.name](),
    )
