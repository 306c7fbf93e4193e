"""Hosts that share a store: each has a near tier of its own, and asks for what nobody has."""

import collections
import multiprocessing
import os
import random
import signal
from pathlib import Path

import httpx2
import numpy as np
import pytest

import askonce
from tests.http import server as servers
from tests.http.askers import CHAT, body
from tests.servers.postgres import PostgresServer, binaries
from tests.servers.redis import PROGRAMS, RedisServer

TEXTS = [str(number) for number in range(2000)]
PROMPTS = [f"prompt {number}" for number in range(200)]
HOSTS, PROCESSES = 2, 4
LONG = "lookup_timeout=30&timeout=60"
"""A busy machine is no failure here."""

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["tests.test_hosts"])


def opened(near: str, far: str, seconds: float = 60.0) -> askonce.Store:
    """Open a store whose leases are good for so many seconds; a dead process is waited for so long."""
    store = askonce.tiered(near, far)
    assert store.leases is not None
    store.leases.seconds = seconds
    return store


def embed_all(near: str, far: str, log: str, seed: int, ready) -> None:
    """Embed all texts in an order of one's own; what the model is sent goes to the log."""
    embed_with(opened(near, far), log, seed, ready, lambda: None)


def embed_amid_a_death(near: str, far: str, log: str, seed: int, ready, dying) -> None:
    """Embed as `embed_all` does; the first process dies while it asks, before any other is done."""

    def die_or_wait() -> None:
        if seed:
            assert dying.wait(60)
            return
        dying.set()
        os.kill(os.getpid(), signal.SIGKILL)

    store = opened(near, far) if seed else opened(near, far, 3.0)
    embed_with(store, log, seed, ready, die_or_wait)


def embed_with(store: askonce.Store, log: str, seed: int, ready, meanwhile) -> None:
    texts = TEXTS[:]
    random.Random(seed).shuffle(texts)

    def embed(batch):
        with open(log, "a") as asked:
            asked.write("".join(f"{text}\n" for text in batch))
        meanwhile()
        return np.array([[float(text), 1.0] for text in batch], np.float32)

    with store:
        cache = askonce.EmbeddingCache(embed, model="m", store=store, batch_size=50)
        ready.wait()
        vectors = cache.embed(texts)
    assert (vectors[:, 0] == np.array(texts, np.float32)).all()


def ask_all(near: str, far: str, url: str, seed: int, ready) -> None:
    """Ask all prompts in an order of one's own."""
    prompts = PROMPTS[:]
    random.Random(seed).shuffle(prompts)
    with opened(near, far) as store:
        transport = askonce.transport(store, httpx2.HTTPTransport(verify=False))
        with httpx2.Client(transport=transport, timeout=60) as client:
            ready.wait()
            for prompt in prompts:
                assert client.post(url, json=body(prompt)).status_code == 200


@pytest.fixture(scope="module", params=["redis", "postgres"])
def server(request):
    server = (
        RedisServer(PROGRAMS["redis8"])
        if request.param == "redis"
        else PostgresServer(binaries()["18"])
    )
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def far(server):
    """Give the URL of a store that is empty."""
    url = server.url()
    url += f"{'&' if '?' in url else '?'}{LONG}"
    with askonce.open_store(url) as store:
        store.clear("")
    return url


@pytest.fixture
def ready():
    return context.Barrier(HOSTS * PROCESSES, timeout=120)


def start(work, folder: Path, far: str, subject: str, *shared) -> list:
    """Start the processes of both hosts; those of one host share its near tier."""
    processes = [
        context.Process(
            target=work,
            args=(f"sqlite:///{folder}/host{host}.db", far, subject, host * 10 + number, *shared),
        )
        for host in range(HOSTS)
        for number in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    return processes


def end(processes) -> list[int]:
    for process in processes:
        process.join()
    return sorted(process.exitcode for process in processes)


def asked(log: Path) -> collections.Counter[str]:
    return collections.Counter(log.read_text().split()) if log.exists() else collections.Counter()


def test_each_text_is_asked_for_once(far, tmp_path, ready):
    log = tmp_path / "log"
    processes = start(embed_all, tmp_path, far, str(log), ready)
    assert end(processes) == [0] * len(processes)
    assert asked(log) == collections.Counter(TEXTS)


def test_each_prompt_is_asked_once(far, tmp_path, ready):
    with servers.running(servers.chat) as provider:
        processes = start(ask_all, tmp_path, far, provider.address + CHAT, ready)
        assert end(processes) == [0] * len(processes)
        assert provider.count == len(PROMPTS)


def test_a_claimant_that_is_killed_is_taken_over(far, tmp_path, ready):
    log = tmp_path / "log"
    dying = context.Event()
    processes = start(embed_amid_a_death, tmp_path, far, str(log), ready, dying)
    assert end(processes) == [-signal.SIGKILL] + [0] * (len(processes) - 1)
    counts = asked(log)
    assert set(counts) == set(TEXTS)
    assert 0 < counts.total() - len(TEXTS) <= 50
