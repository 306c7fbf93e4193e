"""What a gateway works with under one configuration; another configuration makes another."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncGenerator
from fnmatch import fnmatchcase
from typing import Final

from askonce.core.store import Store
from askonce.errors import StoreError
from askonce.events import Event, log
from askonce.gateway.acceptance import Acceptance
from askonce.gateway.access import Access
from askonce.gateway.api_keys import KeyRing
from askonce.gateway.billing import Bill, Prices
from askonce.gateway.config import Config, Rule, Upstream
from askonce.gateway.ledger import Ledger
from askonce.gateway.places import default_keys_url, default_store_url
from askonce.gateway.remembering import Remembered
from askonce.gateway.routes import Routes
from askonce.gateway.upstreams import Way
from askonce.http import HTTPCache
from askonce.observe import tee
from askonce.observe.opentelemetry import Traces
from askonce.observe.prometheus import Metrics
from askonce.stores import for_answers, open_store, patient

_EXCHANGE_EVERY: Final = 1.0
_TRY_AGAIN_AFTER: Final = 1.0


class State:
    """Hold stores, ways to the upstreams and whoever may come in.

    `before` is the state that this one is to follow: a store that both name is one and the same,
    and stays the former's until `take_over`.
    """

    def __init__(self, config: Config, metrics: Metrics, before: "State | None" = None) -> None:
        self.config = config
        self.metrics = metrics
        self.routes = Routes(config.upstreams)
        passes = config.access.keys is None
        self.ways = {
            one.name: Way(one, passes_credentials=passes, traces=config.traces)
            for one in config.upstreams
        }
        self.prices = Prices(config.prices)
        is_same = before is not None and before.config.cache.store == config.cache.store
        self.owns_store = not is_same
        self.store: Store = (
            before.store
            if before is not None and is_same
            else open_store(for_answers(config.cache.store or default_store_url()))
        )
        self.store.works_in_loops = True
        if self.store.leases is not None:
            self.store.leases.works_in_loops = True
        self.acceptance = Acceptance(
            self.store, config.access.verify_for, config.access.trust_when_down
        )
        self.access: Access | None = None
        self._key_store: Store | None = None
        if config.access.keys is not None:
            try:
                self._key_store = open_store(patient(_keys_url(config.access.keys)))
            except BaseException:
                if self.owns_store:
                    self.store.close()
                raise
            writer = f"{os.getpid()}-{os.urandom(6).hex()}"
            ledger = Ledger(self._key_store, writer=writer, every=_EXCHANGE_EVERY)
            self.access = Access(KeyRing(self._key_store), ledger, self.prices)
        self.remembered = Remembered(metrics)
        self._root: HTTPCache | None = None
        self._caches: dict[tuple[str, int], HTTPCache] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._users = 0
        self._ending = asyncio.Event()
        self._is_retired = False
        self._idle = asyncio.Event()

    @property
    def isolates(self) -> bool:
        """Tell whether holders of different credentials share nothing."""
        return self.access is None and self.config.cache.share == "credential"

    @property
    def is_ready(self) -> bool:
        """Tell whether the store has been reached."""
        return self._root is not None

    @property
    def isolation_key(self) -> bytes:
        """Give the key of credentials' digests."""
        return (self._root and self._root.rules.isolation_key) or b""

    async def open(self) -> None:
        """Reach for the store, and go on trying without it if it is not there."""
        if not await self._reach():
            self._tasks.append(asyncio.ensure_future(self._reach_later()))
        if self.access is not None:
            # Before the first request, for the day has gone on while nobody was here.
            await self.access.ledger.exchange(now=time.time())
        self._tasks.append(asyncio.ensure_future(self._tick()))

    def take_over(self, before: "State") -> None:
        """Follow another state: what is shared with it is this one's to close."""
        if self.store is before.store:
            self.owns_store, before.owns_store = before.owns_store, False

    async def _reach(self) -> bool:
        cache = self.config.cache
        try:
            self._root = await asyncio.to_thread(
                HTTPCache,
                self.store,
                # It is needed in any case: who was accepted is remembered by keyed digests.
                isolate=None if self.access else "credential",
                wait=cache.wait,
                **cache.wishes(),
            )
        except StoreError as error:
            log(Event("store_failed", error=error))
            return False
        return True

    async def _reach_later(self) -> None:
        while not (self.is_ready or await self._ends_within(_TRY_AGAIN_AFTER)):
            await self._reach()

    async def _ends_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ending.wait()
        return self._ending.is_set()

    async def _tick(self) -> None:
        """Count, and let the others know, every second."""
        while not await self._ends_within(_EXCHANGE_EVERY):
            self.remembered.flush()
            if self.access is not None:
                await self.access.ledger.exchange(now=time.time())

    def cache(self, upstream: Upstream, path: str, model: str) -> HTTPCache | None:
        """Give the cache with the policy for a request, None as long as there is no store."""
        if self._root is None:
            return None
        number = self._rule(upstream, path, model)
        cache = self._caches.get((upstream.name, number))
        if cache is None:
            cache = self._caches[upstream.name, number] = self._with_policy(
                self._root, upstream, number
            )
        return cache

    @property
    def need_model(self) -> bool:
        """Tell whether a request's model must be known before it is answered."""
        return bool(
            self.routes.need_model or self.access or any(rule.models for rule in self.config.rules)
        )

    def _rule(self, upstream: Upstream, path: str, model: str) -> int:
        for number, rule in enumerate(self.config.rules):
            if (
                (not rule.upstreams or upstream.name in rule.upstreams)
                and _fits(rule.models, model)
                and _fits(rule.paths, path)
            ):
                return number
        return -1

    def _with_policy(self, root: HTTPCache, upstream: Upstream, number: int) -> HTTPCache:
        rule = Rule() if number < 0 else self.config.rules[number]
        sinks = [log, self.metrics.observer(route=upstream.name), self.prices.note]
        if self.config.traces:
            sinks.append(Traces())
        return root.derived(shared=not self.isolates, observe=tee(*sinks), policy=rule.wishes())

    def settle(self, bill: Bill, *, read: int, sent: int, streamed: bool) -> None:
        """Put what a request has cost onto the account of its key; lengths are in bytes."""
        dollars = self.prices.settle(bill, read=read, sent=sent, streamed=streamed)
        if dollars and self.access is not None:
            self.access.ledger.note_spent(bill.key, dollars, now=time.time())

    @contextlib.asynccontextmanager
    async def in_use(self) -> AsyncGenerator["State"]:
        """Keep the state open for as long as the block lasts."""
        self.enter()
        try:
            yield self
        finally:
            self.leave()

    def enter(self) -> None:
        """Begin a request under this state."""
        self._users += 1

    def leave(self) -> None:
        """End a request under this state."""
        self._users -= 1
        if not self._users and self._is_retired:
            self._idle.set()

    async def retire(self) -> None:
        """Close when the last request has ended."""
        self._is_retired = True
        if self._users:
            await self._idle.wait()
        await self.aclose()

    async def aclose(self) -> None:
        """Close stores and connections."""
        self._ending.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.remembered.flush()
        if self.access is not None:
            await self.access.ledger.exchange(now=time.time())
        for way in self.ways.values():
            await way.aclose()
        if self.owns_store:
            await self.store.aclose()
        if self._key_store is not None:
            await self._key_store.aclose()


def _keys_url(told: str) -> str:
    return default_keys_url() if told == "default" else told


def _fits(patterns: tuple[str, ...], name: str) -> bool:
    return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)
