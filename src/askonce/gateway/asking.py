"""Asking a provider for one request, for as long as somebody wants its answer."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, assert_never

import httpx2

from askonce.gateway import billing
from askonce.gateway.billing import Bill
from askonce.gateway.client import Client
from askonce.gateway.state import State
from askonce.gateway.upstreams import Way
from askonce.http import HTTPCache
from askonce.http.identity import Origin
from askonce.http.passing import is_events
from askonce.http.steps import Answering, Close, Drain, Send, Wish
from askonce.http.transport_classes import adrain, asend
from askonce.observe.prometheus import UpstreamError

_LOOK_AGAIN_AFTER: Final = 0.25

_background: set[asyncio.Task[Any]] = set()


class Asking:
    """Carry out what the cache calls for on behalf of one request.

    `digest` is that of its credential, empty where keys tell who asks; `bill` notes that it cost.
    """

    def __init__(
        self,
        state: State,
        client: Client,
        way: Way,
        cache: HTTPCache,
        origin: Origin,
        *,
        digest: str,
        bill: Bill | None,
    ) -> None:
        self._state = state
        self._client = client
        self._way = way
        self._cache = cache
        self._origin = origin
        self._digest = digest
        self._bill = bill
        self._keys: Sequence[str] = ()
        self._cancel: Callable[[], object] = cancelling()

    def watch(self) -> None:
        """Notice from now on if the caller goes away, whose request has been read."""
        self._client.watch(self._on_gone)

    async def call(self, wish: Wish) -> Any:
        """Do what a flow wishes."""
        if not isinstance(wish, Send):
            return await _look_after(wish)
        self._keys = wish.keys
        response = await self._ask(wish.content, self._bill)
        if self._digest:
            if response.status_code == httpx2.codes.OK:
                await self._state.acceptance.accept(self._digest)
            elif response.status_code == httpx2.codes.UNAUTHORIZED:
                await self._state.acceptance.reject(self._digest)
        return response

    def in_background(self, steps: Answering) -> None:
        """Carry out a flow that nobody waits for; the key that gave the occasion pays for it."""
        bill = None if self._bill is None else Bill(self._bill.key, self._bill.model)
        read = sent = 0
        streamed = failed = False

        async def call(wish: Wish) -> Any:
            nonlocal read, sent, streamed, failed
            if isinstance(wish, Send):
                read += len(wish.content)
                failed = True
                response = await self._ask(wish.content, bill)
                streamed = is_events(response.headers)
                failed = response.status_code >= httpx2.codes.BAD_REQUEST
                return response
            outcome = await _look_after(wish)
            if isinstance(wish, Drain):
                sent += sum(map(len, outcome))
            return outcome

        async def refresh() -> None:
            async with self._state.in_use():
                billing.current.set(bill)
                try:
                    await self._cache.arun(steps, call)
                finally:
                    if bill is not None and not failed:
                        self._state.settle(bill, read=read, sent=sent, streamed=streamed)

        task = asyncio.ensure_future(refresh())
        _background.add(task)
        task.add_done_callback(_background.discard)

    def _on_gone(self) -> None:
        """Stop asking for a caller that went away, unless others wait or the answer is wanted."""
        if self._keys and self._state.config.cache.on_disconnect == "finish":
            return
        flights = self._cache.store.flights.under_way(self._keys)
        if any(flight.is_awaited for flight in flights):
            # They may go away, too.
            asyncio.get_running_loop().call_later(_LOOK_AGAIN_AFTER, self._on_gone)
        else:
            self._cancel()

    async def _ask(self, content: bytes, bill: Bill | None) -> Any:
        if bill is not None:
            bill.asked = True
        way = self._way
        request = way.request(self._origin, self._client.headers, content, of_cache=True)
        response = await asend(httpx2, way.transport, request)
        if response.status_code >= httpx2.codes.BAD_REQUEST:
            reason = _class(response.status_code)
            self._state.metrics.upstream_error(route=way.upstream.name, reason=reason)
        return response


def cancelling() -> Callable[[], object]:
    """Give what cancels the task that runs now."""
    task = asyncio.current_task()
    return task.cancel if task is not None else lambda: None


async def _look_after(wish: Wish) -> Any:
    match wish:
        case Drain(response):
            return await adrain(response)
        case Close(response):
            return await response.aclose()
        case Send():
            raise AssertionError
        case _:
            assert_never(wish)


def _class(status: int) -> UpstreamError:
    if status == httpx2.codes.TOO_MANY_REQUESTS:
        return "429"
    return "5xx" if status >= httpx2.codes.INTERNAL_SERVER_ERROR else "4xx"


def reason_of(error: httpx2.TransportError) -> UpstreamError:
    """Tell in a word how a provider failed."""
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout):
        return "connect"
    return "timeout" if isinstance(error, httpx2.TimeoutException) else "cut"
