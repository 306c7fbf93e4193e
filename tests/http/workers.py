"""What the processes of a test do: many threads that ask the same."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx2

import askonce

THREADS = 8
SECONDS = 2.0
"""For which a lease is good: a dead process is waited for that long."""


def ask(store_url: str, url: str, body: dict, ready, wanted: bytes) -> None:
    """Ask from all threads at once, when all processes are ready; fail unless all get this."""
    start = threading.Barrier(THREADS)
    with askonce.open_store(store_url) as store:
        store.leases.seconds = SECONDS

        def one(_: int) -> bytes:
            inner = httpx2.HTTPTransport(verify=False)
            with httpx2.Client(transport=askonce.transport(store, inner), timeout=60) as client:
                start.wait()
                # The user agent tells the test who asks; it decides no answer.
                return client.post(url, json=body, headers={"user-agent": str(os.getpid())}).content

        ready.wait()
        with ThreadPoolExecutor(THREADS) as pool:
            answers = list(pool.map(one, range(THREADS)))
    assert set(answers) == {wanted}
