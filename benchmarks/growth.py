"""What a read costs, and the memory it takes, as a store grows to three million vectors.

Stores of 10,000, 100,000, 1,000,000 and 3,000,000 vectors of 384 dimensions, each read by a process
of its own that opened it anew, through `EmbeddingCache`. Each vector that comes back is compared
with what was stored.

- **First read**: 10,000 random passages of 1,100 characters, right after opening. The system shows
  the process the pages of the file as they are first touched: the larger a store, the more of
  them there are for each vector, and in a process that lives long, for none any more.
- **Read**: 20,000 passages in two calls, random ones and others every round, after everything was
  read once. The goal is at most 1.5 times the time of the smallest store at the largest.
- **Memory**: what the process holds more than before it opened the store, after its last read
  and without the vectors it was given. `own` is memory that nobody else can have; `mapped` is
  pages of the file that the system keeps in memory anyway and takes back whenever it needs the
  room. Both engines read files where the system keeps them, SQLite up to 2 GB of a file.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.frame import Comparison, Contender, Contest
from benchmarks.growth_reader import READ_AT_ONCE, Reader, fill

TITLE = "Growth: from ten thousand to three million vectors"
PACKAGES = ("numpy", "lmdb")
SIZES = (10_000, 100_000, 1_000_000, 3_000_000)
_WORK = Path(__file__).parent.parent / ".cache"


def contests() -> Iterator[Contest]:
    _WORK.mkdir(exist_ok=True)
    for engine, url in (("lmdb", "lmdb:///{}"), ("sqlite", "sqlite:///{}/cache.db")):
        with (
            TemporaryDirectory(prefix="bench-", dir=_WORK, ignore_cleanup_errors=True) as folder,
            ExitStack() as stack,
        ):
            readers = {}
            for size in SIZES:
                path = Path(folder) / str(size)
                path.mkdir()
                fill(url.format(path), size)
                reader = stack.enter_context(Reader(url.format(path), size))
                readers[f"{size:,} stored"] = reader
            for reader in readers.values():
                reader.read_all()
            yield from _contests(engine, readers)


def _contests(engine: str, readers: dict[str, Reader]) -> Iterator[Contest]:
    contenders = [Contender(name, lambda _: None) for name in readers]
    first, *others = readers
    goals = {name: 1 / 1.5 if name == list(readers)[-1] else None for name in others}
    yield Contest(
        f"first read, {engine}",
        "µs per vector",
        contenders,
        [Comparison(name, first) for name in others],
        units=READ_AT_ONCE,
        rounds=1,
        measure=lambda contender: readers[contender.name].first,
    )
    yield Contest(
        f"read, {engine}",
        "µs per vector",
        contenders,
        [Comparison(name, first, goal) for name, goal in goals.items()],
        units=2 * READ_AT_ONCE,
        measure=lambda contender: readers[contender.name].read() + readers[contender.name].read(),
    )
    for kind, wanted in (("own", goals), ("mapped", {})):
        yield Contest(
            f"memory, {kind}, {engine}",
            "MB",
            contenders,
            [Comparison(name, first, goal) for name, goal in wanted.items()],
            scale=1e-6,
            rounds=1,
            measure=lambda contender, kind=kind: readers[contender.name].memory()[kind],
        )
