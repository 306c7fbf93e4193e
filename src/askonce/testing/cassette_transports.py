"""The transports around a cache of cassettes: one before the provider, one before the client."""

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Callable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

from askonce.wire import Parser

if TYPE_CHECKING:
    from askonce.testing.cassette_http import Provider


@functools.cache
def around(library: ModuleType) -> tuple[type[Any], type[Any]]:
    """Make the outer and the inner transport for httpx2 or httpx, each for both colours."""
    timed, paced = _streams(library)

    class Asking(library.BaseTransport, library.AsyncBaseTransport):  # type: ignore[misc,name-defined]
        """Ask the provider, if that is allowed, and record its errors and its pace."""

        def __init__(self, provider: "Provider", make: Callable[[], Any]) -> None:
            self.provider = provider
            self._make = make

        @functools.cached_property
        def inner(self) -> Any:
            # Made when it is needed: reading certificates takes longer than a replayed test.
            return self._make()

        def handle_request(self, request: Any) -> Any:
            if (error := self.provider.recorded_error(request)) is not None:
                return _response(library, error)
            response = self.inner.handle_request(request)
            if self.provider.wants_error(response):
                self.provider.keep_error(request, response, response.read())
                response.close()
            return self._timed(response)

        async def handle_async_request(self, request: Any) -> Any:
            if (error := self.provider.recorded_error(request)) is not None:
                return _response(library, error)
            response = await self.inner.handle_async_request(request)
            if self.provider.wants_error(response):
                self.provider.keep_error(request, response, await response.aread())
                await response.aclose()
            return self._timed(response)

        def _timed(self, response: Any) -> Any:
            delays = self.provider.delays_to_record(response)
            if delays is not None:
                response.stream = timed(response.stream, delays)
            return response

        def close(self) -> None:
            if "inner" in self.__dict__:
                self.inner.close()

        async def aclose(self) -> None:
            if "inner" in self.__dict__:
                await self.inner.aclose()

    class Answering(library.BaseTransport, library.AsyncBaseTransport):  # type: ignore[misc,name-defined]
        """Give what the cache answers, at the pace at which it came if that is asked for."""

        def __init__(self, provider: "Provider", inner: Any) -> None:
            self.provider = provider
            self.inner = inner

        def handle_request(self, request: Any) -> Any:
            return self._paced(self.inner.handle_request(request))

        async def handle_async_request(self, request: Any) -> Any:
            return self._paced(await self.inner.handle_async_request(request))

        def _paced(self, response: Any) -> Any:
            if delays := self.provider.delays_to_replay(response):
                response.stream = paced(response.stream, delays)
            return response

        def close(self) -> None:
            self.inner.close()

        async def aclose(self) -> None:
            await self.inner.aclose()

    return Answering, Asking


def _response(library: ModuleType, error: tuple[int, dict[str, str], bytes]) -> Any:
    status, headers, content = error
    return library.Response(status, headers=headers, content=content)


class _Watch:
    """Take down the seconds before each event of a stream."""

    def __init__(self, delays: list[float]) -> None:
        self._delays = delays
        self._delays.clear()
        self._parser = Parser()
        self._last = time.monotonic()

    def see(self, chunk: bytes) -> None:
        """Take the next bytes; events that come in one go have no time between them."""
        now = time.monotonic()
        for _ in self._parser.feed(chunk):
            self._delays.append(now - self._last)
            self._last = now


def _streams(library: ModuleType) -> tuple[type[Any], type[Any]]:
    class Timed(library.SyncByteStream, library.AsyncByteStream):  # type: ignore[misc,name-defined]
        """Pass a stream on and take its times."""

        def __init__(self, stream: Any, delays: list[float]) -> None:
            self._stream = stream
            self._watch = _Watch(delays)

        def __iter__(self) -> Iterator[bytes]:
            for chunk in self._stream:
                self._watch.see(chunk)
                yield chunk

        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for chunk in self._stream:
                self._watch.see(chunk)
                yield chunk

        def close(self) -> None:
            self._stream.close()

        async def aclose(self) -> None:
            await self._stream.aclose()

    class Paced(library.SyncByteStream, library.AsyncByteStream):  # type: ignore[misc,name-defined]
        """Wait before each event of a replayed stream as long as it took to come."""

        def __init__(self, stream: Any, delays: list[float]) -> None:
            self._stream = stream
            self._delays = iter(delays)

        def __iter__(self) -> Iterator[bytes]:
            for chunk in self._stream:
                time.sleep(next(self._delays, 0.0))
                yield chunk

        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for chunk in self._stream:
                await asyncio.sleep(next(self._delays, 0.0))
                yield chunk

    return Timed, Paced
