"""A job that is killed at random moments and started again."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from askonce import open_store
from askonce.bulk.models import Wishes, open_model
from askonce.providers import cache
from tests.bulk.models import vectors_of

ROOT = Path(__file__).parents[2]
KILLS = 5
COUNT = 4000
MODEL = "python:tests.bulk.models:logged"

RUN = """
import sys
from askonce.core.lease import Leases
from askonce.stores import lmdb, sqlite_leases
from askonce.cli import main

for leases in Leases, sqlite_leases.SQLiteLeases:
    # What a killed process claimed is waited for; here for less than ten seconds.
    leases.__init__.__defaults__ = (0.3,)
sys.exit(main(sys.argv[1:]))
"""


def texts_of(rows):
    return [f"passage {number % (rows * 3 // 4)} of some" for number in range(rows)]


def start(folder, out, store, kind, most=COUNT):
    return subprocess.Popen(
        [sys.executable, "-c", RUN, "embed", "corpus.txt", "--model", MODEL, "--out", out,
         "--store", store, "--format", kind, "--batch-size", "25", "--concurrency", "3"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "ASKONCE_TEST_LOG": "log",
             "ASKONCE_TEST_SECONDS": "0.02", "ASKONCE_TEST_MOST": str(most)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("store", "kind"), [("sqlite:///cache.db", "parquet"), ("lmdb:///cache", "npy")]
)
def test_killed_again_and_again_it_ends_as_if_undisturbed(tmp_path, monkeypatch, store, kind):
    monkeypatch.chdir(tmp_path)
    texts = texts_of(COUNT)
    Path("corpus.txt").write_text("".join(f"{text}\n" for text in texts))
    chance = random.Random(7)
    for _ in range(KILLS):
        stored, seen = stored_texts(store, texts), len(asked())
        wanted = chance.randint(0, 20) * 25
        # However late it is killed, it is not at its end by then.
        job = start(tmp_path, "out", store, kind, wanted + 200)
        while job.poll() is None and len(asked()) - seen < wanted:
            time.sleep(0.002)
        try:
            job.wait(chance.uniform(0, 0.1))
        except subprocess.TimeoutExpired:
            job.kill()
        assert job.wait() == -signal.SIGKILL, job.stdout.read()
        job.stdout.close()
        assert not Path("out").exists()
        assert stored.isdisjoint(asked()[seen:])
    stored, seen = stored_texts(store, texts), len(asked())
    last = start(tmp_path, "out", store, kind)
    said, _ = last.communicate(timeout=120)
    assert last.returncode == 0, said
    assert stored.isdisjoint(asked()[seen:])
    assert sorted(path.name for path in Path().glob(".out*")) == []

    undisturbed = start(tmp_path, "other", "sqlite:///other.db", kind)
    assert undisturbed.wait(120) == 0
    undisturbed.stdout.close()
    files = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    assert files == {path.name: path.read_bytes() for path in Path("other").iterdir()}


def asked():
    log = Path("log")
    return log.read_text().splitlines() if log.exists() else []


def stored_texts(store, texts):
    """Find out what the store holds, and that all of it is right."""
    with open_store(store) as opened:
        found, vectors = cache(open_model(MODEL, Wishes()).embedder, opened).find(texts)
    kept = [text for text, there in zip(texts, found.tolist(), strict=True) if there]
    if kept:
        assert (vectors == vectors_of(kept)).all()
    return set(kept)
