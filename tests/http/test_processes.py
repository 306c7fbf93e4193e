"""Processes with many threads each ask one missing question: one request reaches the provider."""

import json
import multiprocessing
import os
import signal
import threading

import pytest

from tests.http import server as servers
from tests.http import workers
from tests.http.askers import CHAT, body
from tests.http.server import Hang, Script, chat, chunked, completion, events

PROCESSES = 8
LONG, SHORT = 60.0, 2.0
"""Seconds for which a lease is good: a dead process is waited for that long."""
WANTED = {False: json.dumps(completion()).encode(), True: b"".join(events("Hel", "lo"))}

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["tests.http.workers"])


def start(store_url, url, stream, ready, seconds):
    arguments = (store_url, url, body(stream=stream), ready, WANTED[stream], seconds)
    processes = [context.Process(target=workers.ask, args=arguments) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    return processes


@pytest.fixture
def ready():
    """Let all processes begin at once; it must live as long as they do."""
    return context.Barrier(PROCESSES, timeout=60)


def end(processes):
    for process in processes:
        process.join()
    return sorted(process.exitcode for process in processes)


@pytest.fixture(params=["sqlite:///{}/cache.db", "file:///{}/cache"])
def store_url(request, tmp_path):
    return request.param.format(tmp_path)


@pytest.mark.parametrize("stream", [False, True])
def test_one_request_reaches_the_provider(provider, url, store_url, stream, ready):
    assert end(start(store_url, url, stream, ready, LONG)) == [0] * PROCESSES
    assert provider.count == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_leader_killed_midway_costs_one_more(store_url, stream, ready):
    begun = threading.Event()

    def half(asked):
        pieces = [*events("Hel")[:2], Hang] if stream else [Hang]
        for piece in chunked(pieces):
            if piece is Hang:
                begun.set()
            yield piece

    with servers.running(Script([half], rule=chat)) as provider:
        processes = start(store_url, provider.address + CHAT, stream, ready, SHORT)
        assert begun.wait(60)
        leader = int(provider.asked[0].header("user-agent"))
        os.kill(leader, signal.SIGKILL)
        assert end(processes) == [-signal.SIGKILL] + [0] * (PROCESSES - 1)
        assert provider.count == 2
