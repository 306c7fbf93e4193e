"""Kill the command at random moments, start it again, and count what was asked for twice."""

import contextlib
import hashlib
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from askonce import open_store
from askonce.bulk.models import Wishes, open_model
from askonce.providers import cache

MODEL = "python:benchmarks.bulk_model:embedder"
ROOT = Path(__file__).parent.parent
_SEED = 6


@dataclass(frozen=True)
class Found:
    """Count what the kills did."""

    asked: int
    asked_though_stored: int
    different: int
    missing: int


def run(path: Path, texts: Sequence[str], *, kills: int) -> Found:
    """Embed the corpus, killed so many times, and compare with a run that nobody disturbs."""
    folder = path.parent
    chance = random.Random(_SEED)
    again = 0
    for number in range(kills):
        stored, seen = _stored(folder, texts), len(_asked(folder))
        job = _start(folder, path, "killed")
        most = len(texts) // (kills + 2)
        if number % 4:
            # Somewhere in the twentieth part of the corpus that comes next, at any moment of a batch.
            _await_questions(job, folder, seen + chance.randint(1, most))
            with contextlib.suppress(subprocess.TimeoutExpired):
                job.wait(chance.uniform(0, 0.1))
        else:
            # From before the program has begun.
            _await_questions(job, folder, seen + most, seconds=chance.uniform(0, 3.0))
        job.kill()
        if job.wait() != -signal.SIGKILL:
            sys.exit("the job was done before it could be killed often enough")
        again += len(stored.intersection(_asked(folder)[seen:]))
        if (folder / "killed").exists():
            sys.exit("a job that was killed left an output")
    stored, seen = _stored(folder, texts), len(_asked(folder))
    _finish(_start(folder, path, "killed"))
    asked = _asked(folder)
    again += len(stored.intersection(asked[seen:]))
    _finish(_start(folder, path, "undisturbed", store="other"))
    different = _differences(folder / "killed", folder / "undisturbed")
    missing = len(texts) - len(_stored(folder, texts))
    if again or different or missing:
        sys.exit(f"asked again: {again}, different: {different}, missing: {missing}")
    return Found(len(asked), again, different, missing)


def _start(folder: Path, path: Path, out: str, store: str = "store") -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "askonce.cli", "embed", str(path), "--model", MODEL,
         "--store", f"sqlite:///{folder}/{store}.db", "--out", str(folder / out)],
        cwd=ROOT,
        env={**os.environ, "ASKONCE_BENCH_LOG": str(folder / f"{store}.log")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _finish(job: subprocess.Popen[bytes]) -> None:
    if job.wait() != 0:
        sys.exit(f"the job failed with exit code {job.returncode}")


def _await_questions(
    job: subprocess.Popen[bytes], folder: Path, count: int, seconds: float = math.inf
) -> None:
    end = time.monotonic() + seconds
    while job.poll() is None and len(_asked(folder)) < count and time.monotonic() < end:
        time.sleep(0.001)


def _asked(folder: Path) -> list[str]:
    log = folder / "store.log"
    return log.read_text().split() if log.exists() else []


def _stored(folder: Path, texts: Sequence[str]) -> set[str]:
    embedder = open_model(MODEL, Wishes()).embedder
    with open_store(f"sqlite:///{folder}/store.db") as store:
        found, _ = cache(embedder, store).find(texts)
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    return {digest for digest, there in zip(digests, found.tolist(), strict=True) if there}


def _differences(killed: Path, undisturbed: Path) -> int:
    files = [{path.name: path.read_bytes() for path in out.iterdir()} for out in (killed, undisturbed)]
    return sum(files[0].get(name) != files[1].get(name) for name in files[0].keys() | files[1].keys())
