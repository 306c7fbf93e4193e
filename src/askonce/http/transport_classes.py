"""Transports for httpx2 and httpx: a request in, a response out, asked of the provider once."""

import asyncio
import functools
import threading
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


@functools.cache
def transports(library: ModuleType) -> tuple[type[Any], type[Any]]:
    """Make the sync and the async transport for httpx2 or for httpx."""
    made = streams(library)
    lost = (library.RemoteProtocolError, library.ReadError, library.WriteError)
    """How a request fails on a connection that the server has closed."""

    class CacheTransport(library.BaseTransport):  # type: ignore[misc,name-defined]
        """Answer requests from a cache and pass on the rest: a transport for `Client`.

        Closing it closes `inner`, and the cache if that is `owned`.
        """

        def __init__(self, cache: HTTPCache, inner: Any = None, *, owned: bool = False) -> None:
            self.cache = cache
            self.inner = library.HTTPTransport() if inner is None else inner
            self._owned = owned
            self._answerer = Answerer(
                cache, Library(library, made.replay), made.tee, self._in_background
            )

        def handle_request(self, request: Any) -> Any:
            if not _concerns(request.method, request.url.raw_path.decode("ascii")):
                return self.inner.handle_request(passing.without_own(library, request))
            return self.cache.run(self._answerer.answer(request, request.read()), self._call)

        def close(self) -> None:
            self.inner.close()
            if self._owned:
                self.cache.close()

        def _call(self, wish: Wish) -> Any:
            match wish:
                case Send(request):
                    dialling = Dialling(request).watch()
                    try:
                        return self.inner.handle_request(request)
                    except lost:
                        if dialling.dialled:
                            raise
                        return self.inner.handle_request(request)
                case Drain(response):
                    try:
                        return list(response.stream)
                    finally:
                        response.close()
                case Close(response):
                    return response.close()
                case _:
                    assert_never(wish)

        def _in_background(self, steps: Answering) -> None:
            threading.Thread(
                target=self.cache.run, args=(steps, self._call), name="askonce-refresh", daemon=True
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
            self._answerer = Answerer(
                cache, Library(library, made.replay), made.tee, self._in_background
            )

        async def handle_async_request(self, request: Any) -> Any:
            if not _concerns(request.method, request.url.raw_path.decode("ascii")):
                passed_on = passing.without_own(library, request)
                return await self.inner.handle_async_request(passed_on)
            content = await request.aread()
            return await self.cache.arun(self._answerer.answer(request, content), self._call)

        async def aclose(self) -> None:
            for task in self._background:
                task.cancel()
            await asyncio.gather(*self._background, return_exceptions=True)
            await self.inner.aclose()
            if self._owned:
                await self.cache.aclose()

        async def _call(self, wish: Wish) -> Any:
            match wish:
                case Send(request):
                    dialling = Dialling(request).watch_async()
                    try:
                        return await self.inner.handle_async_request(request)
                    except lost:
                        if dialling.dialled:
                            raise
                        return await self.inner.handle_async_request(request)
                case Drain(response):
                    try:
                        return [chunk async for chunk in response.stream]
                    finally:
                        await response.aclose()
                case Close(response):
                    return await response.aclose()
                case _:
                    assert_never(wish)

        def _in_background(self, steps: Answering) -> None:
            task = asyncio.ensure_future(self.cache.arun(steps, self._call))
            self._background.add(task)
            task.add_done_callback(self._background.discard)

    return CacheTransport, AsyncCacheTransport
