"""How one request is answered, written once for both colours.

These flows yield the steps of any flow; what they call for is to send a request, to read a
response or to close it.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from askonce.core.flow import Call, Step, Tell
from askonce.errors import AnswerError, InputError
from askonce.events import Event
from askonce.http import passing
from askonce.http.cache import HTTPCache
from askonce.http.exchange import Batch, Bypass, Exchange, passed_on
from askonce.http.flows import Found, Lead
from askonce.http.recording import Tape
from askonce.wire import openai_embeddings, parse_body

Answering = Generator[Step, Any, Any]


@dataclass(frozen=True, slots=True)
class Send:
    """Ask for a response to this request."""

    request: Any


@dataclass(frozen=True, slots=True)
class ReadBody:
    """Ask for the whole body of a response, decoded."""

    response: Any


@dataclass(frozen=True, slots=True)
class Close:
    """Ask to let a response go."""

    response: Any


@dataclass(frozen=True, slots=True)
class Streams:
    """Make the streams of responses: one that is recorded, and one that is played."""

    tee: Callable[[Any, Tape], Any]
    replay: Callable[[list[bytes]], Any]


class _PassedThrough(Exception):  # noqa: N818  it carries a response out of a flow, no error
    def __init__(self, response: Any) -> None:
        super().__init__()
        self.response = response


@dataclass(frozen=True, slots=True)
class Answerer:
    """Answer requests of one HTTP library from one cache."""

    cache: HTTPCache
    library: ModuleType
    streams: Streams
    revalidate: Callable[[Any, bytes, Exchange], None]

    def answer(self, request: Any, content: bytes) -> Answering:
        """Answer one request that is for an answer or for embeddings."""
        found = self.cache.understand(passing.origin_of(request), content)
        match found:
            case Exchange():
                return (yield from self._answer(request, content, found))
            case Batch():
                return (yield from self._embed(request, content, found))
            case Bypass(reason):
                yield Tell(Event("refused", reason=reason))
                response = yield Call(Send(self._request(request, content, cached=False)))
                response.headers["cache-status"] = passing.forwarded("bypass", detail=reason)
                return response

    def refresh(self, request: Any, content: bytes, exchange: Exchange) -> Answering:
        """Ask anew for an answer that has gone stale, unless somebody else does."""
        outcome = yield from self.cache.finding(exchange, stale=False)
        if isinstance(outcome, Lead):
            response = yield from self._ask(request, content, exchange, outcome)
            yield Call(ReadBody(response))
            yield Call(Close(response))

    def _answer(self, request: Any, content: bytes, exchange: Exchange) -> Answering:
        outcome = yield from self.cache.finding(exchange)
        if isinstance(outcome, Found):
            try:
                reply = self._reply(exchange, outcome)
            except (AnswerError, InputError):
                # An answer that cannot be presented as asked for is asked for again.
                outcome = Lead(exchange.question, "miss")
            else:
                if outcome.stale:
                    self.revalidate(request, content, exchange)
                return reply
        if exchange.policy.only_if_cached:
            return self._not_cached()
        return (yield from self._ask(request, content, exchange, outcome))

    def _ask(self, request: Any, content: bytes, exchange: Exchange, lead: Lead) -> Answering:
        try:
            response = yield Call(Send(self._request(request, content, cached=True)))
        except BaseException:
            yield from self.cache.letting_go(lead, "the provider could not be reached")
            if (stale := self._stand_in(exchange, lead)) is not None:
                return stale
            raise
        response.headers["cache-status"] = passing.forwarded(lead.reason)
        if response.status_code == 200:
            tape = Tape(self.cache, exchange, lead, response)
            response.stream = self.streams.tee(response.stream, tape)
            return response
        yield from self.cache.letting_go(lead, f"the provider answered {response.status_code}")
        if response.status_code in passing.FAILURES:
            stale = self._stand_in(exchange, lead)
            if stale is not None:
                yield Call(Close(response))
                return stale
        return response

    def _embed(self, request: Any, content: bytes, batch: Batch) -> Answering:
        upstream = passing.Upstream(batch, content)
        try:
            rows = yield from self._vectors(request, batch, upstream)
        except _PassedThrough as passed:
            return passed.response
        headers, body = upstream.reply(rows)
        return self.library.Response(200, headers=headers, content=body)

    def _vectors(self, request: Any, batch: Batch, upstream: passing.Upstream) -> Answering:
        """Run the flow of embeddings, with a request where it calls for the model."""
        steps = self.cache.embedding(batch)
        try:
            step = next(steps)
            while True:
                try:
                    if isinstance(step, Call):
                        places = [int(place) for place in step.argument]
                        outcome = yield from self._ask_for(request, batch, upstream, places)
                    else:
                        outcome = yield step
                except BaseException as error:  # noqa: BLE001  it is the inner flow's to handle
                    step = steps.throw(error)
                else:
                    step = steps.send(outcome)
        except StopIteration as end:
            return end.value

    def _ask_for(
        self, request: Any, batch: Batch, upstream: passing.Upstream, places: list[int]
    ) -> Answering:
        if batch.policy.only_if_cached:
            raise _PassedThrough(self._not_cached())
        part = upstream.content_for(places)
        response = yield Call(Send(self._request(request, part, cached=True)))
        if response.status_code != 200:
            raise _PassedThrough(response)
        body = yield Call(ReadBody(response))
        try:
            parsed = parse_body(body)
            rows = openai_embeddings.decode(parsed, len(places))
        except (AnswerError, InputError):
            # What we cannot read is the caller's to see, as an answer to the caller's own request.
            if part != upstream.content:
                whole = self._request(request, upstream.content, cached=True)
                response = yield Call(Send(whole))
            raise _PassedThrough(response) from None
        upstream.headers = passing.kept_headers(response.headers)
        upstream.responses.append(parsed)
        return rows

    def _stand_in(self, exchange: Exchange, lead: Lead) -> Any:
        stale = lead.stale
        if stale is None or not passing.may_stand_in(stale, exchange, now=self.cache.now()):
            return None
        return self._reply(exchange, Found(stale, stale=True))

    def _reply(self, exchange: Exchange, found: Found) -> Any:
        headers, chunks = passing.reply_of(exchange, found, now=self.cache.now())
        if exchange.wants_stream:
            return self.library.Response(200, headers=headers, stream=self.streams.replay(chunks))
        return self.library.Response(200, headers=headers, content=chunks[0])

    def _not_cached(self) -> Any:
        status, headers, body = passing.not_cached()
        return self.library.Response(status, headers=headers, content=body)

    def _request(self, request: Any, content: bytes, *, cached: bool) -> Any:
        headers = passed_on(request.headers.multi_items(), cached=cached)
        return self.library.Request(
            request.method,
            request.url,
            headers=[pair for pair in headers if pair[0].lower() != "content-length"],
            content=content,
            extensions=request.extensions,
        )
