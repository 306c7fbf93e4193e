"""Who is asking: which of LangChain's calls leads a flight, and whether it still does.

LangChain tells a cache when it looks up and when it has an answer, but not when the model fails.
So the frame that looked up is remembered, by its id alone lest its variables live on, and
whoever waits checks now and then whether that frame is still being executed.
"""

import asyncio
import sys
import threading
import weakref
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from types import CodeType, CoroutineType, FrameType, GeneratorType
from typing import Any

from askonce.core import fork
from askonce.core.flight import Flight, Flights

_ASKING = "langchain_core.language_models"
"""Only these modules are known to ask a model right after they found nothing. Another caller may
just be curious, and whoever waited for it would wait in vain."""

_BATCHES = frozenset({"get_prompts", "aget_prompts"})
"""These look up several prompts, before their caller asks for all that are missing."""

_WRAPPERS = frozenset({"lookup", "alookup"})
"""Another cache may pass its lookups on to ours."""

_SWEEP_AT_LEAST = 64

_frame = sys._getframe  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
_threads = sys._current_frames  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]

Owner = tuple[int, int]
"""A thread, or a task of its event loop, by their ids."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Hold which frame asks, and which looks up a batch for it (0: none)."""

    frame: int
    code: CodeType
    batch: int

    def is_in(self, frames: Iterable[FrameType]) -> bool:
        """Tell whether the frame is among these.

        By now its id may be that of another frame, hence the look at the code.
        """
        return any(id(frame) == self.frame and frame.f_code is self.code for frame in frames)


@dataclass(frozen=True, slots=True)
class _Leader:
    flights: Flights
    flight: Flight
    place: _Place
    owner: Owner
    task: "weakref.ref[asyncio.Task[Any]] | None"

    def is_asking(self) -> bool:
        """Tell whether the frame that looked up is still executed, by whichever thread or task."""
        if self.task is None:
            return self.place.is_in(_outwards(_threads().get(self.owner[0])))
        task = self.task()
        return task is not None and not task.done() and _may_be_in(task, self.place)

    def is_asking_here(self, task: "asyncio.Task[Any] | None", place: _Place | None) -> bool:
        """Tell the same of the caller's own thread or task, which now looks up from `place`.

        A frame of a chat model looks up once: a second lookup is made by another frame with the
        first one's id.
        """
        if self.task is not None and self.task() is not task:
            return False
        if place is not None and place.frame == self.place.frame and not place.batch:
            return False
        return self.place.is_in(_outwards(_frame()))


class Pending:
    """Know the leaders among LangChain's calls, for callers that block their thread or await."""

    def __init__(self, *, blocking: bool) -> None:
        self._blocking = blocking

    def may_lead(self) -> bool:
        """Tell whether the caller is a model of LangChain's."""
        return _place() is not None

    def lead(self, flights: Flights, flight: Flight) -> None:
        """Remember that the caller leads this flight from now on."""
        place = _place()
        if place is None:
            flights.land(flight, {})
            return
        owner, task = self._caller()
        _registry.settle(owner, task, place)
        reference = None if task is None else weakref.ref(task)
        _registry.add(_Leader(flights, flight, place, owner, reference))

    def may_wait(self) -> bool:
        """Tell whether the caller leads no flight itself, so that no two wait for each other."""
        if self._blocking and _is_in_event_loop():
            return False
        owner, task = self._caller()
        return not _registry.settle(owner, task, _place())

    def is_gone(self, flight: Flight) -> bool:
        """Tell whether the leader of this flight has failed, or asks for something else."""
        leader = _registry.leader_of(flight)
        return leader is not None and not leader.is_asking()

    def _caller(self) -> "tuple[Owner, asyncio.Task[Any] | None]":
        task = None if self._blocking else asyncio.current_task()
        return (threading.get_ident(), 0 if task is None else id(task)), task


class _Registry:
    """Keep the leaders until their flights land."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        fork.hold_still(self._lock)
        self._leaders: dict[Future[Any], _Leader] = {}
        self._owned: dict[Owner, list[_Leader]] = {}
        self._sweep_at = _SWEEP_AT_LEAST

    def add(self, leader: _Leader) -> None:
        landed = leader.flight.landed
        with self._lock:
            self._leaders[landed] = leader
            self._owned.setdefault(leader.owner, []).append(leader)
            everyone = list(self._leaders.values()) if len(self._leaders) > self._sweep_at else []
        landed.add_done_callback(self._forget)
        if everyone:
            _give_up(one for one in everyone if not one.is_asking())
            self._sweep_at = max(_SWEEP_AT_LEAST, 2 * len(self._leaders))

    def leader_of(self, flight: Flight) -> _Leader | None:
        with self._lock:
            return self._leaders.get(flight.landed)

    def settle(self, owner: Owner, task: "asyncio.Task[Any] | None", place: _Place | None) -> bool:
        """Land what the caller asked for before and gave up; tell whether it still asks at all."""
        with self._lock:
            led = tuple(self._owned.get(owner, ()))
        gone = [one for one in led if not one.is_asking_here(task, place)]
        _give_up(gone)
        return len(gone) < len(led)

    def _forget(self, landed: Future[Any]) -> None:
        with self._lock:
            leader = self._leaders.pop(landed)
            rest = self._owned[leader.owner]
            rest.remove(leader)
            if not rest:
                del self._owned[leader.owner]


_registry = _Registry()
"""One for all stores: two calls could wait for each other across two of them."""


def _give_up(leaders: Iterable[_Leader]) -> None:
    for leader in leaders:
        leader.flights.land(leader.flight, {})


def _place() -> _Place | None:
    """Find the frame of LangChain's that looks up in our caches, if one does."""
    frame: FrameType | None = _frame(1)
    batch = 0
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module.startswith(_ASKING):
            if frame.f_code.co_name not in _BATCHES:
                return _Place(id(frame), frame.f_code, batch)
            batch = id(frame)
        elif not module.startswith("askonce.") and frame.f_code.co_name not in _WRAPPERS:
            return None
        frame = frame.f_back
    return None


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _may_be_in(task: "asyncio.Task[Any]", place: _Place) -> bool:
    """Tell whether a task may be executing a frame, by what it awaits, from the outside in."""
    awaited: Any = task.get_coro()
    while True:
        match awaited:
            case CoroutineType():
                frame, running, inner = awaited.cr_frame, awaited.cr_running, awaited.cr_await
            case GeneratorType():
                frame, running, inner = awaited.gi_frame, awaited.gi_running, awaited.gi_yieldfrom
            case _:
                # A future ends the chain; what else is awaited may hide more of it.
                return awaited is not None and type(awaited).__name__ != "FutureIter"
        if running or (frame is not None and place.is_in((frame,))):
            return True
        awaited = inner


def _is_in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
