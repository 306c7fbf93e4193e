"""What the processes of a test do: many threads that ask the same."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx2

import askonce

THREADS = 8


def ask(store_url: str, url: str, body: dict, ready, wanted: bytes, seconds: float) -> None:
    """Ask from all threads at once, when all processes are ready; fail unless all get this.

    A lease is good for so many seconds.
    """
    start = threading.Barrier(THREADS)
    with askonce.open_store(store_url) as store:
        store.leases.seconds = seconds

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
