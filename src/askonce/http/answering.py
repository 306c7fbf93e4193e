"""How one request is answered, written once for both colours."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from askonce.core.flow import Call, Tell
from askonce.errors import InputError
from askonce.events import Event
from askonce.http import passing
from askonce.http.batches import Batching
from askonce.http.cache import HTTPCache
from askonce.http.exchange import Batch, Bypass, Exchange
from askonce.http.flows import Found, Lead
from askonce.http.identity import Origin
from askonce.http.steps import Answering, Close, Drain, Library, Send
from askonce.http.tape import Tape


@dataclass(frozen=True, slots=True)
class Answerer:
    """Answer one request from a cache, or with what its provider says.

    `tee` makes a stream that is passed on and recorded; `in_background` carries out a flow.
    `may_stand_in` allows a stale answer where the provider fails and the policy wants it.
    """

    cache: HTTPCache
    library: Library
    tee: Callable[[Any, Tape], Any]
    in_background: Callable[[Answering], None]
    origin: Origin
    content: bytes
    may_stand_in: bool = True

    def answer(self) -> Answering:
        """Answer a request that is for an answer or for embeddings."""
        try:
            found = self.cache.understand(self.origin, self.content)
        except InputError as error:
            return self._made(passing.not_understood(error))
        match found:
            case Exchange():
                return (yield from self._answer(found))
            case Batch():
                batching = Batching(self.cache, self.library, self.content, found)
                return (yield from batching.answer())
            case Bypass(reason, policy, code):
                yield Tell(Event("refused", 1, policy.namespace, reason=reason, code=code))
                if policy.only_if_cached:
                    return self._made(passing.not_cached(reason))
                response = yield Call(Send(self.content))
                passing.add_status(response, passing.forwarded("bypass", detail=reason))
                return response

    def _answer(self, exchange: Exchange) -> Answering:
        policy = exchange.policy
        outcome = yield from self.cache.finding(exchange)
        if isinstance(outcome, Found):
            reply = self._reply(exchange, outcome)
            if reply is not None:
                may_ask = not (policy.only_if_cached or policy.no_store)
                if outcome.stale and may_ask and not self.cache.is_asked_for(exchange):
                    self.in_background(self._refresh(exchange))
                return reply
            # An answer that cannot be presented as asked for is asked for again.
            outcome = Lead(exchange.question)
        if policy.only_if_cached:
            return self._made(passing.not_cached())
        return (yield from self._ask(exchange, outcome))

    def _refresh(self, exchange: Exchange) -> Answering:
        """Ask anew for an answer that has gone stale, unless somebody else does."""
        lead = yield from self.cache.refreshing(exchange)
        if lead is None:
            return
        try:
            response = yield from self._ask(exchange, lead)
            yield Call(Drain(response))
        except Exception as error:  # noqa: BLE001  nobody waits for this answer
            namespace, reason = lead.question.namespace, f"{error!r}"
            yield Tell(Event("refused", 1, namespace, reason=reason, code="no_answer"))

    def _ask(self, exchange: Exchange, lead: Lead) -> Answering:
        began = time.monotonic()
        try:
            epochs = yield from self.cache.epochs(exchange)
            response = yield Call(Send(self.content, (lead.question.key,)))
            if response.status_code == 200:
                tape = Tape(
                    self.cache,
                    exchange,
                    lead,
                    response,
                    began=began,
                    epochs=epochs,
                    decode=self.library.decoded,
                )
                return self._recorded(response, tape, lead)
        except BaseException as error:
            reason = f"the provider gave no answer: {error!r}"
            yield from self.cache.letting_go(lead, "no_answer", reason)
            if isinstance(error, self.library.module.TransportError):
                stale = self._stand_in(exchange, lead)
                if stale is not None:
                    return stale
            raise
        reason = f"the provider answered {response.status_code}"
        yield from self.cache.letting_go(lead, "provider_status", reason, ended=True)
        if response.status_code in passing.FAILURES:
            stale = self._stand_in(exchange, lead)
            if stale is not None:
                yield Call(Close(response))
                return stale
        passing.add_status(response, passing.forwarded(lead.reason))
        return response

    def _recorded(self, response: Any, tape: Tape, lead: Lead) -> Any:
        """Give a response anew whose stream is recorded, for this one may have been read."""
        recorded = self.library.module.Response(
            response.status_code,
            headers=response.headers,
            stream=self.tee(response.stream, tape),
            extensions=response.extensions,
        )
        passing.add_status(recorded, passing.forwarded(lead.reason))
        return recorded

    def _stand_in(self, exchange: Exchange, lead: Lead) -> Any:
        """Give a stale answer for a provider that failed, None if there is none or it may not."""
        stale = lead.stale
        if not self.may_stand_in or stale is None:
            return None
        if not passing.may_stand_in(stale, exchange, now=self.cache.now()):
            return None
        return self._reply(exchange, Found(stale, stale=True))

    def _reply(self, exchange: Exchange, found: Found) -> Any:
        """Give a kept answer as asked for, None if that cannot be."""
        try:
            headers, chunks = passing.reply_of(exchange, found, now=self.cache.now())
        except Exception:  # noqa: BLE001  whatever an entry holds, it must not break the call
            return None
        return self.library.reply(200, headers, chunks)

    def _made(self, parts: tuple[int, passing.Headers, bytes]) -> Any:
        status, headers, body = parts
        return self.library.reply(status, headers, [body])
