"""What a call costs while the store that hosts share is down, and how soon it is used again.

A call embeds one text that nobody has, by a model that answers at once, through a near tier in
memory over a Redis 8 or a Postgres 18 with the deadlines that they have by default.

- **A call while the server is down**: it stands still (SIGSTOP) or is gone (killed); against the
  same call over the near tier alone. The first call, which finds out, is not among these.
- **The first call** after the server came to stand still, or was gone.
- **Until it is used again**: from the moment it goes on to the first look-up that it answers.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np

import askonce
from benchmarks.frame import Comparison, Contender, Contest
from tests.servers.postgres import PostgresServer, binaries
from tests.servers.redis import PROGRAMS, RedisServer

TITLE = "A shared store that fails"
PACKAGES = ("redis", "psycopg", "numpy")
_CALLS = 50
_numbers = itertools.count()

Fault = tuple[Callable[[], Any], Callable[[], Any]]
"""How it begins, and how it ends."""


class Setting:
    """Be one server with tiers over it, and a way in which it fails."""

    def __init__(self, stack: ExitStack, server: Any, fault: Callable[[Any], Fault]) -> None:
        self.begin, self.end = fault(server)
        self.store = stack.enter_context(askonce.tiered("memory://", server.url()))
        self.cache = askonce.EmbeddingCache(_embed, model="m", store=self.store, observe=_nothing)

    def in_trouble(self, measure: Callable[["Setting"], float]) -> float:
        self.recover()
        self.begin()
        try:
            return measure(self)
        finally:
            self.end()

    def recover(self) -> float:
        """Wait until the server is used again; tell how long that took."""
        began = time.perf_counter()
        while True:
            ask(self.cache)
            if self.store.trouble is None:
                return time.perf_counter() - began
            time.sleep(0.002)

    def recovery(self) -> float:
        self.recover()
        self.begin()
        try:
            ask(self.cache)
        finally:
            self.end()
        return self.recover()


def _embed(texts: list[str]) -> Any:
    return np.ones((len(texts), 384), np.float32)


def _nothing(_: object) -> None:
    pass


def ask(cache: askonce.EmbeddingCache) -> float:
    """Embed a new text, and tell how long that took."""
    text = str(next(_numbers))
    began = time.perf_counter()
    cache.embed([text])
    return time.perf_counter() - began


def _stands_still(server: Any) -> Fault:
    held = ExitStack()
    return lambda: held.enter_context(server.paused()), held.close


def _is_gone(server: Any) -> Fault:
    return getattr(server, "kill", None) or server.stop, server.start


def contests() -> Iterator[Contest]:
    """Give the contests one after the other; their servers live until the last is over."""
    with ExitStack() as stack:
        settings = {}
        for name, make in (
            ("Redis", lambda: RedisServer(PROGRAMS["redis8"])),
            ("Postgres", lambda: PostgresServer(binaries()["18"])),
        ):
            for what, fault in (("stands still", _stands_still), ("is gone", _is_gone)):
                server = make()
                stack.callback(server.remove)
                server.start()
                settings[f"{name} {what}"] = Setting(stack, server, fault)
        alone = askonce.EmbeddingCache(
            _embed, model="m", store=stack.enter_context(askonce.open_store("memory://"))
        )

        def down(contender: Contender) -> float:
            def measure(setting: Setting) -> float:
                ask(setting.cache)
                return sum(ask(setting.cache) for _ in range(_CALLS))

            if contender.name not in settings:
                return sum(ask(alone) for _ in range(_CALLS))
            return settings[contender.name].in_trouble(measure)

        names = ["near tier alone", *settings]
        yield Contest(
            "A call while the server is down",
            "µs per call",
            [Contender(name, lambda _: None) for name in names],
            [Comparison(name, names[0]) for name in settings],
            units=_CALLS,
            measure=down,
        )
        yield Contest(
            "The first call",
            "ms",
            [Contender(name, lambda _: None) for name in settings],
            [],
            scale=1e3,
            measure=lambda contender: settings[contender.name].in_trouble(
                lambda setting: ask(setting.cache)
            ),
        )
        yield Contest(
            "Until it is used again",
            "ms",
            [Contender(name, lambda _: None) for name in settings],
            [],
            scale=1e3,
            measure=lambda contender: settings[contender.name].recovery(),
        )
