"""Processes that want the same texts at the same moment share the work."""

import collections
import multiprocessing
import os
import random
import signal
from pathlib import Path

import numpy as np
import pytest

import askonce

URLS = ["sqlite:///{}/cache.db", "lmdb:///{}/cache", "file:///{}/cache"]
TEXTS = [str(number) for number in range(5000)]
PROCESSES = 8
KILLED = 3


def work(url: str, log: str, seed: int, seconds: float) -> None:
    """Embed all texts in an order of one's own; what the model is sent goes to the log."""
    texts = TEXTS[:]
    random.Random(seed).shuffle(texts)

    def embed(batch):
        with open(log, "a") as asked:
            asked.write("".join(f"{text}\n" for text in batch))
        pause.wait(seconds)
        return np.array([[float(text), 1.0] for text in batch], np.float32)

    pause = multiprocessing.Event()
    with askonce.open_store(url) as store:
        assert store.leases is not None
        # The others wait that long for the one that dies; of the living none is to lose a lease.
        store.leases.seconds = 3.0 if seed == KILLED else 60.0
        vectors = askonce.EmbeddingCache(embed, model="m", store=store).embed(texts)
    assert (vectors[:, 0] == np.array(texts, np.float32)).all()


def start(url: str, log: Path, seconds: float) -> list:
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=work, args=(url, str(log), seed, seconds))
        for seed in range(PROCESSES)
    ]
    for worker in workers:
        worker.start()
    return workers


def asked(log: Path) -> collections.Counter[str]:
    return collections.Counter(log.read_text().split()) if log.exists() else collections.Counter()


@pytest.mark.parametrize("url", URLS)
def test_each_text_reaches_the_model_once(url, tmp_path):
    log = tmp_path / "log"
    workers = start(url.format(tmp_path), log, 0.0)
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * PROCESSES
    assert asked(log) == collections.Counter(TEXTS)


@pytest.mark.parametrize("url", URLS)
def test_of_a_killed_process_only_the_unfinished_batch_is_asked_again(url, tmp_path):
    log = tmp_path / "log"
    workers = start(url.format(tmp_path), log, 0.02)
    while asked(log).total() < 1000:
        assert workers[KILLED].is_alive()
    os.kill(workers[KILLED].pid, signal.SIGKILL)
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers if worker is not workers[KILLED]] == [0] * 7
    counts = asked(log)
    assert set(counts) == set(TEXTS)
    assert counts.total() - len(TEXTS) <= askonce.embeddings.DEFAULT_BATCH_SIZE
