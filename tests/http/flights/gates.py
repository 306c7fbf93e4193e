"""Answers that are held back, and what must be left of whoever waited for one."""

import threading

import askonce
from tests.http.server import chat


class Gate:
    """Hold an answer back until it is opened; `reached` tells that somebody asks."""

    def __init__(self, answer=chat):
        self.reached = threading.Event()
        self.opened = threading.Event()
        self._answer = answer

    def __call__(self, asked):
        self.reached.set()
        assert self.opened.wait(30)
        return self._answer(asked)


def nothing_is_left(store):
    """Every flight has landed and every lease is released."""
    assert not store.flights._flights
    assert not store.leases._held
    with askonce.open_store(f"sqlite:///{store.path}") as other:
        keys = list(store.keys())
        assert other.leases.claim(keys) == keys
        other.leases.release(keys)


def at_once(pool, askers, url, request):
    return [pool.submit(asker.ask, url, request) for asker in askers]
