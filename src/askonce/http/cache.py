"""The cache of HTTP answers: a store and its rules, in both colours."""

import asyncio
import copy
import dataclasses
import math
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final, Literal, Unpack, overload

from askonce.core import entry, flow
from askonce.core.embedding import Terms, embed_flow, look_up_flow
from askonce.core.flight import Flights
from askonce.core.inputs import Inputs
from askonce.core.store import Store
from askonce.errors import InputError
from askonce.events import Code, Observer, log
from askonce.explain import Difference, Explanation, difference
from askonce.http import explaining, flows, passing, tags
from askonce.http.answer import Answer
from askonce.http.control import Defaults, Policy, policy_of
from askonce.http.exchange import Batch, Bypass, Exchange, Rules, understand
from askonce.http.flows import NOTHING_KNOWN, Lead, Spent
from askonce.http.identity import Origin
from askonce.stores import for_answers, open_store
from askonce.wire import Json

DEFAULT_WAIT = 300.0
_ISOLATION_KEY: Final = "~askonce/isolation"
"""No namespace's keys begin like this, so that clearing one leaves it alone."""

_POLL = 0.02
_TRIES = 1000

Keep = Callable[[Json], bool]


class CacheOptions(Defaults, total=False):
    """Name the arguments of `HTTPCache` besides its store."""

    isolate: Literal["credential"] | None
    keep: Keep | Collection[str] | None
    ignored_headers: Iterable[str]
    wait: float
    observe: Observer


class HTTPCache:
    """Keep the answers of model providers, as their HTTP interfaces give them.

    `namespace`, `ttl` and the other policies are defaults that a request's headers and
    `askonce.policy` override. `isolate` "credential" lets only holders of the same credential
    share entries. `keep` is asked last whether a finished answer (parsed JSON) may be kept, or
    names the shortfalls that are, see `Policy`. `ignored_headers` decide no answer, besides those
    known not to; a name may end in `*`. `wait` is how many seconds a request waits for another
    that asks the same. A Store that you opened is yours to close. Raises InputError for what
    cannot be used.
    """

    def __init__(
        self,
        store: Store | str,
        *,
        isolate: Literal["credential"] | None = None,
        keep: Keep | Collection[str] | None = None,
        ignored_headers: Iterable[str] = (),
        wait: float = DEFAULT_WAIT,
        observe: Observer = log,
        **policy: Unpack[Defaults],
    ) -> None:
        if isolate not in (None, "credential"):
            raise InputError(f"isolate is {isolate!r}; it is 'credential' or None")
        shortfalls = () if keep is None or callable(keep) else keep
        default = policy_of({**policy, "keep": shortfalls})
        self._keep = keep if callable(keep) else None
        self._owns_store = not isinstance(store, Store)
        self.store = open_store(for_answers(store))
        self.wait = wait
        self.observe = observe
        self.rules = Rules(
            default, tuple(ignored_headers), self._isolation_key() if isolate else None
        )

    def derived(self, *, shared: bool, observe: Observer, policy: Mapping[str, Any]) -> "HTTPCache":
        """Give a cache of the same store with other defaults, for a part of the requests.

        `shared` lets holders of different credentials share entries; `policy` names what differs.
        The store stays this cache's own. Raises InputError for what is no policy.
        """
        rules = self.rules
        derived = copy.copy(self)
        vars(derived).update(
            _owns_store=False,
            observe=observe,
            rules=dataclasses.replace(
                rules,
                policy=dataclasses.replace(rules.policy, **policy),
                isolation_key=None if shared else rules.isolation_key,
            ),
        )
        return derived

    def retire(self, *names: str, namespace: str | None = None) -> None:
        """Retire every answer that has one of these tags, at once. Raises StoreError."""
        self.store.write(self._retired(names, namespace))

    async def aretire(self, *names: str, namespace: str | None = None) -> None:
        """Retire without blocking the event loop; see `retire`."""
        await self.store.awrite(self._retired(names, namespace))

    def forget(
        self,
        request: Any = None,
        *,
        method: str = "POST",
        url: str = "",
        headers: Mapping[str, str] | None = None,
        body: Json | bytes | str = b"",
    ) -> int:
        """Forget the answer to one request and tell how many entries that were.

        `request` is one of httpx2 or httpx, or a mapping with its parts; or give these alone. Of
        a batch of embeddings each input is forgotten. Raises InputError for a request that is
        never cached, and StoreError.
        """
        if isinstance(request, Mapping):
            return self.forget(**request)
        keys = self._keys_of(request or passing.request_of(method, url, headers or {}, body))
        found = [key for key, blob in zip(keys, self.store.read(keys), strict=True) if blob]
        self.store.delete(found)
        return len(found)

    async def aforget(self, request: Any = None, **parts: Any) -> int:
        """Forget without blocking the event loop; see `forget`."""
        return await asyncio.to_thread(self.forget, request, **parts)

    @overload
    def explain(self, request: Any) -> Explanation: ...

    @overload
    def explain(self, request: Any, other: Any) -> list[Difference]: ...

    def explain(self, request: Any, other: Any = None) -> Explanation | list[Difference]:
        """Tell what identifies a request, or where two of them differ; see `Explanation`.

        A request is one of httpx2 or httpx, or a mapping with `url`, `headers` and `body`. Raises
        InputError for what is none.
        """
        if other is not None:
            return difference(self.explain(request), self.explain(other))
        if isinstance(request, Mapping):
            return explaining.explain(*explaining.read_request(request), self.rules)
        return explaining.explain(passing.origin_of(request), request.content, self.rules)

    def close(self) -> None:
        """Close the store if it was opened here, from a URL."""
        if self._owns_store:
            self.store.close()

    async def aclose(self) -> None:
        """Close without blocking the event loop."""
        if self._owns_store:
            await self.store.aclose()

    def understand(self, origin: Origin, content: bytes) -> Exchange | Batch | Bypass:
        """Tell what a request asks of the cache. Raises InputError for unreadable wishes."""
        return understand(origin, content, self.rules)

    def keeps(self, exchange: Exchange, reply: Json) -> tuple[Code, str] | None:
        """Tell why a finished answer is not kept after all, None if it is."""
        if exchange.policy.no_store:
            return "no_store", "no-store was asked for"
        if self._keep is not None and not self._keep(reply):
            return "keep_hook", "keep() refused the answer"
        return None

    def now(self) -> float:
        """Tell the time: seconds since 1970."""
        return flow.now()

    def run(self, steps: flow.Flow, call: Callable[[Any], Any] = id) -> Any:
        """Carry out a flow on this cache's store."""
        return flow.run(steps, store=self.store, call=call, observe=self.observe)

    async def arun(self, steps: flow.Flow, call: Callable[[Any], Any] = id) -> Any:
        """Carry out a flow without blocking the event loop."""
        return await flow.arun(steps, store=self.store, call=call, observe=self.observe)

    def finding(self, exchange: Exchange) -> flow.Flow:
        """Find the answer or lead in asking for it."""
        return flows.find_flow(self._terms(exchange))

    def refreshing(self, exchange: Exchange) -> flow.Flow:
        """Lead in asking anew, unless somebody else does."""
        return flows.refresh_flow(self._terms(exchange))

    def is_asked_for(self, exchange: Exchange) -> bool:
        """Tell whether somebody in this process is asking for the answer."""
        return bool(self.store.flights.under_way((exchange.question.key,)))

    def epochs(self, exchange: Exchange) -> flow.Flow:
        """Give the epochs of the tags that the answer is going to have."""
        policy = exchange.policy
        return tags.epochs_of(policy.namespace, policy.tags, flow.now())

    def saving(self, lead: Lead, answer: Answer, blob: bytes) -> flow.Flow:
        """Keep an answer, packed in `blob`, and hand it to all who wait for it."""
        return flows.save_flow(lead, answer, blob, self.store.flights)

    def letting_go(
        self,
        lead: Lead,
        code: Code,
        reason: str,
        *,
        ended: bool = False,
        spent: Spent = NOTHING_KNOWN,
    ) -> flow.Flow:
        """Keep nothing; see `let_go_flow`."""
        flights = self.store.flights
        return flows.let_go_flow(lead, code, reason, flights, ended=ended, spent=spent)

    def embedding(self, batch: Batch) -> flow.Flow:
        """Give the vectors of a batch, None where some are missing and may not be asked for.

        The places of those that are missing are called for.
        """
        policy = batch.policy
        terms = self._embedding_terms(batch.inputs, policy)
        if policy.only_if_cached:
            table = yield from look_up_flow(batch.inputs, terms)
            missing = policy.no_cache or table.missing().size
            return None if missing else table.take(batch.inputs.positions)
        return (yield from embed_flow(batch.inputs, terms))

    def _embedding_terms(self, inputs: Inputs, policy: Policy) -> Terms:
        now = flow.now()
        # Who wants new vectors, or none to be stored, shares with nobody.
        alone = policy.no_cache or policy.no_store
        since = -math.inf if policy.max_age is None else now - policy.max_age
        return Terms(
            flights=Flights() if alone else self.store.flights,
            batch_size=max(1, len(inputs.keys)),
            dimensions=None,
            now=now,
            ttl=policy.ttl,
            wait=0.0 if alone else self.wait,
            since=now if policy.no_cache else since,
            keep=not policy.no_store,
        )

    def _terms(self, exchange: Exchange) -> flows.Terms:
        return flows.Terms(
            exchange.question, exchange.policy, self.store.flights, self.wait, flow.now()
        )

    def _retired(self, names: Iterable[str], namespace: str | None) -> dict[str, bytes]:
        where = self.rules.policy.namespace if namespace is None else namespace
        return tags.new_epochs(where, names, flow.now())

    def _keys_of(self, request: Any) -> list[str]:
        match self.understand(passing.origin_of(request), request.content):
            case Exchange() as exchange:
                return [exchange.question.key]
            case Batch() as batch:
                return batch.inputs.keys
            case Bypass(reason):
                why = reason or "it is neither for an answer nor for embeddings"
                raise InputError(f"there is nothing to forget of this request: {why}")

    def _isolation_key(self) -> bytes:
        """Give the key of credentials' digests, which is kept in the store and made once."""
        leases = self.store.leases
        for _ in range(_TRIES):
            (blob,) = self.store.read([_ISOLATION_KEY])
            found = entry.unpack(blob) if blob else None
            if found is not None:
                return found.payload
            # Two who make one at the same moment must not each go on with their own.
            if leases is None or leases.claim([_ISOLATION_KEY]):
                if self.store.read([_ISOLATION_KEY]) == [blob]:
                    fresh = entry.pack(entry.Entry(os.urandom(32), 0, flow.now()))
                    self.store.write({_ISOLATION_KEY: fresh})
                if leases is not None:
                    leases.release([_ISOLATION_KEY])
            else:
                time.sleep(_POLL)
        raise InputError("the store keeps nothing, so credentials cannot be told apart in it")
