"""Transports for httpx2 and httpx: a request in, a response out, asked of the provider once."""

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Iterator
from types import ModuleType
from typing import Any, assert_never

from askonce.http import passing
from askonce.http.answering import Answerer, Close, ReadBody, Send, Streams
from askonce.http.cache import HTTPCache
from askonce.http.exchange import Exchange
from askonce.http.identity import Origin
from askonce.http.recording import Tape
from askonce.wire import is_embeddings, wire_for


def concerns(origin: Origin) -> bool:
    """Tell whether a request is for an answer or for embeddings at all."""
    return wire_for(origin.method, origin.target) is not None or is_embeddings(
        origin.method, origin.path
    )


@functools.cache
def transports(library: ModuleType) -> tuple[type[Any], type[Any]]:
    """Make the sync and the async transport for httpx2 or for httpx."""
    streams = _streams(library)

    class CacheTransport(library.BaseTransport):  # type: ignore[misc,name-defined]
        """Answer requests from a cache and pass on the rest: a transport for `Client`."""

        def __init__(self, cache: HTTPCache, inner: Any = None) -> None:
            self.cache = cache
            self.inner = library.HTTPTransport() if inner is None else inner
            self._answerer = Answerer(cache, library, streams, self._revalidate)

        def handle_request(self, request: Any) -> Any:
            if not concerns(passing.origin_of(request)):
                return self.inner.handle_request(request)
            return self.cache.run(self._answerer.answer(request, request.read()), self._call)

        def close(self) -> None:
            self.inner.close()
            self.cache.close()

        def _call(self, wish: Send | ReadBody | Close) -> Any:
            match wish:
                case Send(request):
                    try:
                        return self.inner.handle_request(request)
                    except library.RemoteProtocolError:
                        # A pooled connection that the server had closed: once more, on a new one.
                        return self.inner.handle_request(request)
                case ReadBody(response):
                    return response.read()
                case Close(response):
                    return response.close()
                case _:
                    assert_never(wish)

        def _revalidate(self, request: Any, content: bytes, exchange: Exchange) -> None:
            steps = self._answerer.refresh(request, content, exchange)
            threading.Thread(
                target=self.cache.run, args=(steps, self._call), name="askonce-refresh", daemon=True
            ).start()

    class AsyncCacheTransport(library.AsyncBaseTransport):  # type: ignore[misc,name-defined]
        """Answer requests from a cache and pass on the rest: a transport for `AsyncClient`."""

        def __init__(self, cache: HTTPCache, inner: Any = None) -> None:
            self.cache = cache
            self.inner = library.AsyncHTTPTransport() if inner is None else inner
            self._answerer = Answerer(cache, library, streams, self._revalidate)
            self._refreshing: set[asyncio.Task[Any]] = set()

        async def handle_async_request(self, request: Any) -> Any:
            if not concerns(passing.origin_of(request)):
                return await self.inner.handle_async_request(request)
            content = await request.aread()
            return await self.cache.arun(self._answerer.answer(request, content), self._call)

        async def aclose(self) -> None:
            for task in list(self._refreshing):
                task.cancel()
            await self.inner.aclose()
            await self.cache.aclose()

        async def _call(self, wish: Send | ReadBody | Close) -> Any:
            match wish:
                case Send(request):
                    try:
                        return await self.inner.handle_async_request(request)
                    except library.RemoteProtocolError:
                        return await self.inner.handle_async_request(request)
                case ReadBody(response):
                    return await response.aread()
                case Close(response):
                    return await response.aclose()
                case _:
                    assert_never(wish)

        def _revalidate(self, request: Any, content: bytes, exchange: Exchange) -> None:
            steps = self._answerer.refresh(request, content, exchange)
            task = asyncio.ensure_future(self.cache.arun(steps, self._call))
            self._refreshing.add(task)
            task.add_done_callback(self._refreshing.discard)

    return CacheTransport, AsyncCacheTransport


def _streams(library: ModuleType) -> Streams:
    class Tee(library.SyncByteStream, library.AsyncByteStream):  # type: ignore[misc,name-defined]
        """Pass a stream on and record it. Being iterated twice, it goes on where it was."""

        def __init__(self, stream: Any, tape: Tape) -> None:
            self._stream = stream
            self._tape = tape
            self._chunks: Any = None

        def __iter__(self) -> Iterator[bytes]:
            self._chunks = self._chunks or iter(self._stream)
            for chunk in self._chunks:
                yield self._tape.pass_on(chunk)
            self._end(whole=True)

        async def __aiter__(self) -> AsyncIterator[bytes]:
            self._chunks = self._chunks or aiter(self._stream)
            async for chunk in self._chunks:
                yield self._tape.pass_on(chunk)
            steps = self._tape.end(whole=True)
            if steps is not None:
                await self._tape.cache.arun(steps)

        def close(self) -> None:
            try:
                self._stream.close()
            finally:
                self._end(whole=False)

        async def aclose(self) -> None:
            try:
                await self._stream.aclose()
            finally:
                steps = self._tape.end(whole=False)
                if steps is not None:
                    await self._tape.cache.arun(steps)

        def __del__(self) -> None:
            # Whoever forgets a response must not keep others waiting for it.
            self._end(whole=False)

        def _end(self, *, whole: bool) -> None:
            steps = self._tape.end(whole=whole)
            if steps is not None:
                self._tape.cache.run(steps)

    class Replay(library.SyncByteStream, library.AsyncByteStream):  # type: ignore[misc,name-defined]
        """Play a recorded stream, each of its chunks by itself."""

        def __init__(self, chunks: list[bytes]) -> None:
            self._chunks = iter(chunks)

        def __iter__(self) -> Iterator[bytes]:
            yield from self._chunks

        async def __aiter__(self) -> AsyncIterator[bytes]:
            for chunk in self._chunks:
                yield chunk

    return Streams(Tee, Replay)
