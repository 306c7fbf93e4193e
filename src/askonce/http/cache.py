"""The cache of HTTP answers: a store and its rules, in both colours."""

import dataclasses
import os
import time
from collections.abc import Callable, Iterable
from typing import Any

from askonce.core import entry, flow
from askonce.core.embedding import Terms, embed_flow
from askonce.core.store import Store
from askonce.errors import InputError
from askonce.events import Observer, log
from askonce.http.answer import Answer
from askonce.http.control import Policy
from askonce.http.exchange import Batch, Bypass, Exchange, Rules, understand
from askonce.http.flows import Lead, epochs_flow, find_flow, let_go_flow, retire_flow, save_flow
from askonce.http.identity import Origin
from askonce.stores import open_store
from askonce.wire import Json

DEFAULT_WAIT = 300.0
_ISOLATION_KEY = "askonce/isolation/key"

Keep = Callable[[Json], bool]


class HTTPCache:
    """Keep the answers of model providers, as their HTTP interfaces give them.

    `namespace`, `ttl` and the other policies are defaults that a request's headers and
    `askonce.policy` override. `isolate` "credential" lets only holders of the same credential
    share entries. `keep` is asked last whether a finished answer may be kept. `ignored_headers`
    decide no answer, besides those known not to. `wait` is how many seconds a request waits for
    another that asks the same. A Store that you opened is yours to close.
    """

    def __init__(
        self,
        store: Store | str,
        *,
        isolate: str | None = None,
        keep: Keep | None = None,
        ignored_headers: Iterable[str] = (),
        wait: float = DEFAULT_WAIT,
        observe: Observer = log,
        **policy: Any,
    ) -> None:
        if isolate not in (None, "credential"):
            raise InputError(f"isolate is {isolate!r}; it is 'credential' or None")
        try:
            default = Policy(**policy)
        except TypeError as error:
            raise InputError(f"not a policy: {error}") from None
        self._owns_store = not isinstance(store, Store)
        self.store = open_store(store)
        self.wait = wait
        self.observe = observe
        self._keep = keep
        self.rules = Rules(
            default, tuple(ignored_headers), self._isolation_key() if isolate else None
        )

    def understand(self, origin: Origin, content: bytes) -> Exchange | Batch | Bypass:
        """Tell what a request asks of the cache."""
        return understand(origin, content, self.rules)

    def keeps(self, exchange: Exchange, reply: Json) -> str | None:
        """Tell why a finished answer is not kept after all, None if it is."""
        if exchange.policy.no_store:
            return "no-store was asked for"
        if self._keep is not None and not self._keep(reply):
            return "keep() refused the answer"
        return None

    def now(self) -> float:
        """Tell the time: seconds since 1970."""
        return flow.now()

    def finding(self, exchange: Exchange, *, stale: bool = True) -> flow.Flow:
        """Find the answer or lead; an answer gone stale is no find unless `stale`."""
        policy = exchange.policy
        if not stale:
            policy = dataclasses.replace(policy, stale_while_revalidate=0.0)
        return find_flow(
            exchange.question, policy, self.store.flights, wait=self.wait, now=flow.now()
        )

    def saving(self, lead: Lead, answer: Answer, tags: Iterable[str]) -> flow.Flow:
        """Keep an answer and hand it to all who wait for it."""
        if names := tuple(tags):
            epochs = yield from epochs_flow(lead.question.namespace, names, answer.created)
            answer = dataclasses.replace(answer, tags=epochs)
        yield from save_flow(lead, answer, self.store.flights)

    def letting_go(self, lead: Lead, reason: str) -> flow.Flow:
        """Keep nothing, and let those who wait ask for themselves."""
        return let_go_flow(lead, reason, self.store.flights)

    def embedding(self, batch: Batch) -> flow.Flow:
        """Give the vectors of a batch; the places that are missing are called for."""
        terms = Terms(
            flights=self.store.flights,
            batch_size=max(1, len(batch.inputs.keys)),
            dimensions=None,
            now=flow.now(),
            ttl=batch.policy.ttl,
            wait=self.wait,
        )
        return embed_flow(batch.inputs, terms)

    def run(self, steps: flow.Flow, call: Callable[[Any], Any] = id) -> Any:
        """Carry out a flow on this cache's store."""
        return flow.run(steps, store=self.store, call=call, observe=self.observe)

    async def arun(self, steps: flow.Flow, call: Callable[[Any], Any] = id) -> Any:
        """Carry out a flow without blocking the event loop."""
        return await flow.arun(steps, store=self.store, call=call, observe=self.observe)

    def retire(self, *tags: str, namespace: str | None = None) -> None:
        """Retire every entry that has one of these tags, at once."""
        self.run(self._retiring(tags, namespace))

    async def aretire(self, *tags: str, namespace: str | None = None) -> None:
        """Retire without blocking the event loop."""
        await self.arun(self._retiring(tags, namespace))

    def close(self) -> None:
        """Close the store if it was opened here, from a URL."""
        if self._owns_store:
            self.store.close()

    async def aclose(self) -> None:
        """Close without blocking the event loop."""
        if self._owns_store:
            await self.store.aclose()

    def _retiring(self, tags: Iterable[str], namespace: str | None) -> flow.Flow:
        where = self.rules.policy.namespace if namespace is None else namespace
        return retire_flow(where, tags, flow.now())

    def _isolation_key(self) -> bytes:
        """Give the key of credentials' digests, which is kept in the store and made once."""
        for _ in range(2):
            (blob,) = self.store.read([_ISOLATION_KEY])
            found = entry.unpack(blob) if blob else None
            if found is not None:
                return found.payload
            fresh = entry.pack(entry.Entry(os.urandom(32), 0, time.time()))
            self.store.write({_ISOLATION_KEY: fresh})
        raise InputError("the store keeps nothing, so credentials cannot be told apart in it")
