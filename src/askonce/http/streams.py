"""The streams of responses: one that is recorded as it passes, and one that is played."""

import _thread
import asyncio
import contextlib
import functools
import gc
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from askonce.core.flow import Flow
from askonce.http.cache import HTTPCache
from askonce.http.tape import Tape


@dataclass(frozen=True, slots=True)
class Streams:
    """Make streams of one HTTP library, for both colours."""

    tee: Callable[[Any, Tape], Any]
    replay: Callable[[Iterable[bytes]], Any]


@functools.cache
def streams(library: ModuleType) -> Streams:  # noqa: C901  classes for either of two libraries
    """Make the streams of httpx2 or of httpx."""

    class Tee(library.SyncByteStream, library.AsyncByteStream):  # type: ignore[misc,name-defined]
        """Pass a stream on and record it. Being iterated twice, it goes on where it was."""

        def __init__(self, stream: Any, tape: Tape) -> None:
            self._stream = stream
            self._tape = tape
            self._chunks: Any = None

        def __iter__(self) -> Iterator[bytes]:
            self._tape.go_on()
            self._chunks = self._chunks or iter(self._stream)
            for chunk in self._chunks:
                yield self._tape.take(chunk)
                self._tape.go_on()
            self._end(whole=True)

        async def __aiter__(self) -> AsyncIterator[bytes]:
            self._tape.go_on()
            self._chunks = self._chunks or aiter(self._stream)
            async for chunk in self._chunks:
                yield self._tape.take(chunk)
                self._tape.go_on()
            await self._aend(whole=True)

        def close(self) -> None:
            try:
                self._stream.close()
            finally:
                self._end(whole=False)

        async def aclose(self) -> None:
            try:
                if hasattr(self._chunks, "aclose"):
                    # Another task may be just reading, and then it closes what it reads.
                    with contextlib.suppress(RuntimeError):
                        await self._chunks.aclose()
                await self._stream.aclose()
            finally:
                await self._aend(whole=False)

        def __del__(self) -> None:
            # Whoever forgets a response must not keep others waiting for it.
            steps = self._tape.end(whole=False)
            if steps is not None:
                _elsewhere(self._tape.cache, steps)

        def _end(self, *, whole: bool) -> None:
            steps = self._tape.end(whole=whole)
            if steps is None:
                return
            if _is_collecting():
                _elsewhere(self._tape.cache, steps)
            else:
                self._tape.cache.run(steps)

        async def _aend(self, *, whole: bool) -> None:
            steps = self._tape.end(whole=whole)
            if steps is not None:
                # Who is cancelled now has had the answer all the same.
                ending = asyncio.ensure_future(self._tape.cache.arun(steps))
                _endings.add(ending)
                ending.add_done_callback(_endings.discard)
                await asyncio.shield(ending)

    class Replay(library.SyncByteStream, library.AsyncByteStream):  # type: ignore[misc,name-defined]
        """Play a recorded stream, each of its chunks by itself; twice, it goes on where it was."""

        def __init__(self, chunks: Iterable[bytes]) -> None:
            self._chunks = iter(chunks)

        def __iter__(self) -> Iterator[bytes]:
            yield from self._chunks

        async def __aiter__(self) -> AsyncIterator[bytes]:
            for chunk in self._chunks:
                yield chunk

    if _watch not in gc.callbacks:
        gc.callbacks.append(_watch)
    return Streams(Tee, Replay)


_endings: set["asyncio.Future[Any]"] = set()
_collecting: set[int] = set()


def _watch(phase: str, _: object) -> None:
    """Note which thread collects garbage."""
    if phase == "start":
        _collecting.add(threading.get_ident())
    else:
        _collecting.discard(threading.get_ident())


def _is_collecting() -> bool:
    """Tell whether this thread collects garbage: then it may stand inside of any lock.

    A stream that is forgotten midway is closed by whoever collects it, at any moment.
    """
    return threading.get_ident() in _collecting


def _elsewhere(cache: HTTPCache, steps: Flow) -> None:
    """Carry out a flow in another thread, whose start takes no lock and waits for nothing."""
    with contextlib.suppress(RuntimeError):  # at the interpreter's end there are no threads
        _thread.start_new_thread(cache.run, (steps,))
