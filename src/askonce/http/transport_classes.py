"""Transports for httpx2 and httpx: a request in, a response out, asked of the provider once."""

import asyncio
import functools
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any, assert_never

from askonce.http import passing
from askonce.http.answering import Answerer
from askonce.http.cache import HTTPCache
from askonce.http.dialling import Dialling
from askonce.http.identity import Origin
from askonce.http.steps import Answering, Close, Drain, Library, Send, Wish
from askonce.http.streams import streams
from askonce.wire import is_embeddings, wire_for


def concerns(origin: Origin) -> bool:
    """Tell whether a request is for an answer or for embeddings at all."""
    return _concerns(origin.method, origin.target)


def _concerns(method: str, target: str) -> bool:
    return wire_for(method, target) is not None or is_embeddings(method, target)


def _lost(library: ModuleType) -> tuple[type[Exception], ...]:
    """Give the ways in which a request fails on a connection that the server has closed."""
    return library.RemoteProtocolError, library.ReadError, library.WriteError


async def asend(library: ModuleType, inner: Any, request: Any) -> Any:
    """Send a request, and once more if the connection it went out on had been closed before."""
    dialling = Dialling(request).watch_async()
    try:
        return await inner.handle_async_request(request)
    except _lost(library):
        if dialling.may_be_heard:
            raise
        return await inner.handle_async_request(request)


async def adrain(response: Any) -> list[bytes]:
    """Give all that is still to come of a response, as it comes, and let it go."""
    try:
        return [chunk async for chunk in response.stream]
    finally:
        await response.aclose()


@functools.cache
def transports(library: ModuleType) -> tuple[type[Any], type[Any]]:
    """Make the sync and the async transport for httpx2 or for httpx."""
    made = streams(library)
    makes = Library(library, made.replay)
    lost = _lost(library)

    class CacheTransport(library.BaseTransport):  # type: ignore[misc,name-defined]
        """Answer requests from a cache and pass on the rest: a transport for `Client`.

        Closing it closes `inner`, and the cache if that is `owned`.
        """

        def __init__(self, cache: HTTPCache, inner: Any = None, *, owned: bool = False) -> None:
            self.cache = cache
            self.inner = library.HTTPTransport() if inner is None else inner
            self._owned = owned

        def handle_request(self, request: Any) -> Any:
            if not _concerns(request.method, request.url.raw_path.decode("ascii")):
                return self.inner.handle_request(passing.without_own(library, request))
            content = request.read()
            call = functools.partial(self._call, request)
            background = functools.partial(self._in_background, call)
            answerer = Answerer(
                self.cache, makes, made.tee, background, passing.origin_of(request), content
            )
            return self.cache.run(answerer.answer(), call)

        def close(self) -> None:
            self.inner.close()
            if self._owned:
                self.cache.close()

        def _call(self, request: Any, wish: Wish) -> Any:
            match wish:
                case Send(content):
                    going = makes.outgoing(request, content)
                    dialling = Dialling(going).watch()
                    try:
                        return self.inner.handle_request(going)
                    except lost:
                        if dialling.may_be_heard:
                            raise
                        return self.inner.handle_request(going)
                case Drain(response):
                    try:
                        return list(response.stream)
                    finally:
                        response.close()
                case Close(response):
                    return response.close()
                case _:
                    assert_never(wish)

        def _in_background(self, call: Callable[[Wish], Any], steps: Answering) -> None:
            threading.Thread(
                target=self.cache.run, args=(steps, call), name="askonce-refresh", daemon=True
            ).start()

    class AsyncCacheTransport(library.AsyncBaseTransport):  # type: ignore[misc,name-defined]
        """Answer requests from a cache and pass on the rest: a transport for `AsyncClient`.

        Closing it closes `inner`, and the cache if that is `owned`.
        """

        def __init__(self, cache: HTTPCache, inner: Any = None, *, owned: bool = False) -> None:
            self.cache = cache
            self.inner = library.AsyncHTTPTransport() if inner is None else inner
            self._owned = owned
            self._background: set[asyncio.Task[Any]] = set()

        async def handle_async_request(self, request: Any) -> Any:
            if not _concerns(request.method, request.url.raw_path.decode("ascii")):
                passed_on = passing.without_own(library, request)
                return await self.inner.handle_async_request(passed_on)
            content = await request.aread()
            call = functools.partial(self._call, request)
            background = functools.partial(self._in_background, call)
            answerer = Answerer(
                self.cache, makes, made.tee, background, passing.origin_of(request), content
            )
            return await self.cache.arun(answerer.answer(), call)

        async def aclose(self) -> None:
            for task in self._background:
                task.cancel()
            await asyncio.gather(*self._background, return_exceptions=True)
            await self.inner.aclose()
            if self._owned:
                await self.cache.aclose()

        async def _call(self, request: Any, wish: Wish) -> Any:
            match wish:
                case Send(content):
                    return await asend(library, self.inner, makes.outgoing(request, content))
                case Drain(response):
                    return await adrain(response)
                case Close(response):
                    return await response.aclose()
                case _:
                    assert_never(wish)

        def _in_background(self, call: Callable[[Wish], Any], steps: Answering) -> None:
            task = asyncio.ensure_future(self.cache.arun(steps, call))
            self._background.add(task)
            task.add_done_callback(self._background.discard)

    return CacheTransport, AsyncCacheTransport
