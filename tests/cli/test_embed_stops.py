"""askonce embed, stopped by Ctrl-C and by full disks."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from askonce import open_store
from askonce.stores.sqlite_leases import SQLiteLeases
from tests.bulk import models
from tests.bulk.conftest import fresh_models  # noqa: F401  a fixture
from tests.cli.embedding import ROOT, STORE, write


INTERRUPTING = """
import os, signal, sys, threading, time
from askonce.stores.sqlite_leases import SQLiteLeases
from tests.bulk import models
from askonce.cli import main

def interrupt():
    for _ in range(2):
        models.begun.acquire()
    os.kill(os.getpid(), signal.SIGINT)
    {then}

threading.Thread(target=interrupt, daemon=True).start()
sys.exit(main(["embed", "a.txt", "--model", "python:tests.bulk.models:slow",
    "--store", "sqlite:///cache.db", "--out", "out", "--batch-size", "10"]))
"""


def interrupted(then):
    return subprocess.run(
        [sys.executable, "-c", INTERRUPTING.format(then=then)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_control_c_finishes_the_batches_under_way(embed):
    write("a.txt", map(str, range(1000)))
    done = interrupted("models.gate.set()")
    assert done.returncode == 130, done.stderr
    assert "Finishing the batches under way" in done.stderr
    assert (
        "What was stored stays; go on with: askonce embed a.txt --model "
        "python:tests.bulk.models:slow --out out --store sqlite:///cache.db --batch-size 10"
    ) in done.stderr
    assert "Traceback" not in done.stderr
    with open_store(STORE) as store:
        assert len(list(store.keys())) == 20
    assert not Path("out").exists()
    assert not list(Path().glob(".out*"))
    models.gate.set()
    assert embed("a.txt", "--out", "out", model="slow").code == 0
    assert sum(map(len, models.asked)) == 980


def test_a_second_control_c_stops_at_once(embed):
    write("a.txt", map(str, range(1000)))
    # Signals that come before the first is heard are one.
    done = interrupted("while not time.sleep(0.05): os.kill(os.getpid(), signal.SIGINT)")
    assert done.returncode == 130
    assert "Stopped at once" in done.stderr
    with open_store(STORE) as store:
        assert not list(store.keys())
    assert not Path("out").exists()


@pytest.mark.parametrize("kind", ["parquet", "npy"])
def test_a_disk_that_is_full_when_the_output_is_written(embed, kind):
    write("a.txt", map(str, range(20000)))
    assert embed("a.txt", "--out", "elsewhere").code == 0
    models.asked.clear()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, limit[1]))
        result = embed("a.txt", "--out", "out", "--format", kind)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert result.code == 1
    assert "cannot write" in result.err
    assert "File too large" in result.err
    assert "go on with: askonce embed" in result.err
    assert not Path("out").exists()
    assert not list(Path().glob(".out*"))
    assert embed("a.txt", "--out", "out", "--format", kind).code == 0
    assert not models.asked


def test_a_disk_that_is_full_when_the_store_is_written(embed, monkeypatch):
    # Where the disk is full, claims cannot be given back either; they lapse.
    monkeypatch.setattr(SQLiteLeases.__init__, "__defaults__", (0.2,))
    write("a.txt", map(str, range(20000)))
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, limit[1]))
        result = embed("a.txt", "--out", "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert result.code == 1
    assert "the store failed" in result.err
    assert not Path("out").exists()
    with open_store(STORE) as store:
        stored = len(list(store.keys()))
    assert stored
    models.asked.clear()
    assert embed("a.txt", "--out", "out").code == 0
    assert sum(map(len, models.asked)) == 20000 - stored
