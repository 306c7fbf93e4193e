"""Flows and the two functions that know how to wait.

A flow is a generator: it yields what it needs (`Read`, `Write`, `Call`, …) and is sent the
outcome. `run` carries the steps out in a thread, `arun` in an event loop. They are
also the only place where a broken store becomes a miss and where events are sent.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from askonce.core.entry import NEVER
from askonce.core.flight import Flight
from askonce.core.reading import Reader, Reading
from askonce.core.store import Store
from askonce.errors import StoreUnavailableError
from askonce.events import Event, Observer


@dataclass(frozen=True, slots=True)
class Read:
    """Ask for the values of keys; sent a list in their order, None where there is none.

    `joined` allows the store to give them as one block if all are there and of one length.
    """

    keys: Sequence[str]
    joined: bool = False


@dataclass(frozen=True, slots=True)
class Begin:
    """Ask to begin a joined read; sent what `Finish` takes, while it goes on."""

    keys: Sequence[str]


@dataclass(frozen=True, slots=True)
class Finish:
    """Wait for what was begun; sent what `Read` is sent."""

    reading: Any


@dataclass(frozen=True, slots=True)
class Write:
    """Ask to store entries; sent True if the store took them."""

    entries: Mapping[str, bytes]
    expires: float = NEVER


@dataclass(frozen=True, slots=True)
class Call:
    """Ask the model; sent its answer."""

    argument: Any


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait for a flight of someone else's; sent what it brought, or None after `seconds`."""

    flight: Flight
    seconds: float


@dataclass(frozen=True, slots=True)
class Claim:
    """Claim keys among processes; sent those that were granted.

    `kept` claims outlive the flow: another one releases them.
    """

    keys: Sequence[str]
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Release:
    """Release claimed keys; sent nothing. What a flow leaves claimed is released at its end."""

    keys: Sequence[str]


@dataclass(frozen=True, slots=True)
class Pause:
    """Let some time pass; sent nothing."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell the observer; sent nothing."""

    event: Event


Step = Read | Begin | Finish | Write | Call | Wait | Claim | Release | Pause | Tell
Flow = Generator[Step, Any, Any]

_log = logging.getLogger("askonce")


def run(flow: Flow, *, store: Store, call: Callable[[Any], Any], observe: Observer) -> Any:
    """Carry out a flow in this thread and give its result."""
    held: set[str] = set()
    reader = Reader(store)
    try:
        step = next(flow)
        while True:
            try:
                outcome: Any = None
                match step:
                    case Read(keys, joined):
                        outcome = _read(store, keys, observe, joined=joined)
                    case Begin(keys):
                        outcome = reader.begin(keys)
                    case Finish(reading):
                        outcome = _finish(reader, reading, observe)
                        del reading
                    case Write(entries, expires):
                        outcome = _write(store, entries, expires, observe)
                    case Call(argument):
                        outcome = call(argument)
                    case Wait(flight, seconds):
                        outcome = _wait(flight, seconds)
                    case Claim(keys, kept):
                        outcome = _claim(store, keys, observe)
                        held.update(() if kept else outcome)
                    case Release(keys):
                        held.difference_update(keys)
                        _release(store, keys, observe)
                    case Pause(seconds):
                        time.sleep(seconds)
                    case Tell(event):
                        tell(observe, event)
                    case _:
                        assert_never(step)
            except BaseException as error:
                step = flow.throw(error)
            else:
                step = flow.send(outcome)
    except StopIteration as end:
        return end.value
    finally:
        if held:
            _release(store, held, observe)
        _tell_news(observe, store)
        reader.close()


async def arun(flow: Flow, *, store: Store, call: Callable[[Any], Any], observe: Observer) -> Any:
    """Carry out a flow in this event loop and give its result."""
    held: set[str] = set()
    begun: list[asyncio.Task[bytes | Sequence[bytes | None]]] = []
    try:
        step = next(flow)
        while True:
            try:
                outcome: Any = None
                match step:
                    case Read(keys, joined):
                        outcome = await _aread(store, keys, observe, joined=joined)
                    case Begin(keys):
                        outcome = asyncio.create_task(_aread(store, keys, observe, joined=True))
                        begun.append(outcome)
                        await asyncio.sleep(0)  # a task begins when others are let in
                    case Finish(reading):
                        outcome = await reading
                        begun.remove(reading)
                        del reading
                    case Write(entries, expires):
                        outcome = await _awrite(store, entries, expires, observe)
                    case Call(argument):
                        outcome = await call(argument)
                    case Wait(flight, seconds):
                        outcome = await _await(flight, seconds)
                    case Claim(keys, kept):
                        outcome = await _aclaim(store, keys, observe)
                        held.update(() if kept else outcome)
                    case Release(keys):
                        held.difference_update(keys)
                        await _arelease(store, keys, observe)
                    case Pause(seconds):
                        await asyncio.sleep(seconds)
                    case Tell(event):
                        tell(observe, event)
                    case _:
                        assert_never(step)
            except BaseException as error:
                step = flow.throw(error)
            else:
                step = flow.send(outcome)
    except StopIteration as end:
        return end.value
    finally:
        if held and store.works_in_loops:
            # Whoever goes away must not hold up a server's loop while another process writes.
            await _arelease(store, held, observe)
        elif held:
            _release(store, held, observe)
        _tell_news(observe, store)
        for reading in begun:
            reading.cancel()


def _read(
    store: Store, keys: Sequence[str], observe: Observer, *, joined: bool
) -> bytes | Sequence[bytes | None]:
    try:
        return store.read_joined(keys) if joined else store.read(keys)
    except Exception as error:
        _tell_failure(observe, error, len(keys))
        return [None] * len(keys)


def _finish(reader: Reader, reading: Reading, observe: Observer) -> bytes | Sequence[bytes | None]:
    try:
        return reader.finish(reading)
    except Exception as error:
        _tell_failure(observe, error, len(reading.keys))
        return [None] * len(reading.keys)


async def _aread(
    store: Store, keys: Sequence[str], observe: Observer, *, joined: bool
) -> bytes | Sequence[bytes | None]:
    try:
        if len(keys) == 1 and (values := store.read_at_once(keys[0])) is not None:
            return values
        return await (store.aread_joined(keys) if joined else store.aread(keys))
    except Exception as error:
        _tell_failure(observe, error, len(keys))
        return [None] * len(keys)


def _write(store: Store, entries: Mapping[str, bytes], expires: float, observe: Observer) -> bool:
    try:
        store.write(entries, expires=expires)
    except Exception as error:
        _tell_failure(observe, error, len(entries))
        return False
    return True


async def _awrite(
    store: Store, entries: Mapping[str, bytes], expires: float, observe: Observer
) -> bool:
    try:
        if not store.write_at_once(entries, expires=expires):
            await store.awrite(entries, expires=expires)
    except Exception as error:
        _tell_failure(observe, error, len(entries))
        return False
    return True


def _wait(flight: Flight, seconds: float) -> Mapping[str, bytes] | None:
    if flight.is_mine(blocking=True):
        return None
    try:
        with flight.followed():
            return flight.landed.result(seconds)
    except TimeoutError:
        return None


async def _await(flight: Flight, seconds: float) -> Mapping[str, bytes] | None:
    if flight.is_mine(blocking=False):
        return None
    try:
        async with asyncio.timeout(seconds):
            with flight.followed():
                return await asyncio.shield(asyncio.wrap_future(flight.landed))
    except TimeoutError:
        return None


def _claim(store: Store, keys: Sequence[str], observe: Observer) -> Sequence[str]:
    """Claim keys; where claims cannot be had everyone may ask."""
    try:
        return keys if store.leases is None else store.leases.claim(keys)
    except Exception as error:
        _tell_failure(observe, error, len(keys))
        return keys


async def _aclaim(store: Store, keys: Sequence[str], observe: Observer) -> Sequence[str]:
    try:
        return keys if store.leases is None else await store.leases.aclaim(keys)
    except Exception as error:
        _tell_failure(observe, error, len(keys))
        return keys


def _release(store: Store, keys: Collection[str], observe: Observer) -> None:
    try:
        if store.leases is not None:
            store.leases.release(keys)
    except Exception as error:
        _tell_failure(observe, error, len(keys))


async def _arelease(store: Store, keys: Collection[str], observe: Observer) -> None:
    try:
        if store.leases is not None:
            await store.leases.arelease(keys)
    except Exception as error:
        _tell_failure(observe, error, len(keys))


def tell(observe: Observer, event: Event) -> None:
    """Hand an event to the observer, whose own failure must not break a call."""
    try:
        observe(event)
    except Exception:
        _log.exception("the observer failed on %s", event.kind)


def _tell_failure(observe: Observer, error: Exception, count: int) -> None:
    """Tell that the store failed, unless it was not even asked because that was told before."""
    if not isinstance(error, StoreUnavailableError):
        tell(observe, Event("store_failed", count, error=error))


def _tell_news(observe: Observer, store: Store) -> None:
    news = store.news
    while news:
        try:
            event = news.popleft()
        except IndexError:
            return
        tell(observe, event)


def now() -> float:
    """Tell the time as entries write it: seconds since 1970."""
    return time.time()
