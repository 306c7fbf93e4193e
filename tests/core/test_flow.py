"""Both drivers, with the same flows: what one gives, the other gives."""

import asyncio
import functools
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from askonce import Event, StoreError
from askonce.core import colours, flow
from askonce.core.flight import Flight, Flights
from askonce.core.flow import Call, Read, Tell, Wait, Write
from askonce.stores.memory import MemoryStore
from tests.core.drivers import Broken, drive, drive_blocking

__all__ = ["drive"]


async def double_later(number):
    await asyncio.sleep(0)
    return number * 2


class Doubler:
    async def __call__(self, number):
        return number * 2


@pytest.mark.parametrize(
    "call",
    [
        lambda number: number * 2,
        double_later,
        Doubler(),
        functools.partial(double_later),
        functools.partial(lambda factor, number: factor * number, 2),
    ],
)
def test_every_step_gives_its_outcome(drive, call):
    events = []

    def steps():
        first = yield Read(["a/1"])
        stored = yield Write({"a/1": b"x"})
        second = yield Read(["a/1", "a/2"])
        nothing = yield Tell(Event("hit", 3))
        doubled = yield Call(21)
        flight = Flights().claim(["a"])
        flight._owner = (0, 0)
        flight.landed.set_result({"a": b"1"})
        landed = yield Wait(flight, 5)
        return first, stored, second, nothing, doubled, landed

    outcome = drive(steps(), call=call, observe=events.append)
    assert outcome == ([None], True, [b"x", None], None, 42, {"a": b"1"})
    assert events == [Event("hit", 3)]


@pytest.mark.parametrize(
    "error", [StoreError("down"), OSError("gone"), RuntimeError("bug"), TimeoutError()]
)
def test_a_broken_store_is_a_miss_and_an_event(drive, error):
    events = []

    def steps():
        return (yield Read(["a/1", "a/2"])), (yield Write({"a/1": b"x"}))

    assert drive(steps(), Broken(error), observe=events.append) == ([None, None], False)
    assert [(event.kind, event.count) for event in events] == [
        ("store_failed", 2),
        ("store_failed", 1),
    ]
    assert all(isinstance(event.error, type(error)) for event in events)


@pytest.mark.parametrize(
    "error", [RuntimeError("the model is down"), KeyboardInterrupt(), StoreError("its own")]
)
def test_the_models_error_reaches_the_caller_untouched(drive, error):
    tidied = []

    def steps():
        try:
            yield Call(1)
        finally:
            tidied.append(True)

    def call(_):
        raise error

    async def acall(_):
        raise error

    if isinstance(error, Exception):
        with pytest.raises(type(error)) as caught:
            drive(steps(), call=call)
        assert caught.value is error
    with pytest.raises(type(error)):
        drive(steps(), call=acall)
    assert tidied


def test_a_flow_may_handle_the_models_error_and_go_on(drive):
    def steps():
        try:
            yield Call(1)
        except RuntimeError:
            return (yield Read(["a/1"]))

    def call(_):
        raise RuntimeError

    assert drive(steps(), call=call) == [None]


def test_an_observer_that_fails_breaks_nothing(drive, caplog):
    def observe(event):
        raise RuntimeError("the dashboard is down")

    def steps():
        yield Tell(Event("hit"))
        return (yield Read(["a/1"]))

    with caplog.at_level(logging.ERROR, "askonce"):
        assert drive(steps(), Broken(OSError()), observe=observe) == [None]
    assert "the observer failed on hit" in caplog.text


def test_a_flow_that_says_nonsense_is_told(drive):
    def steps():
        yield "nonsense"

    with pytest.raises(AssertionError):
        drive(steps())


def test_waiting_ends_after_its_time_and_for_ones_own_flight_at_once(drive):
    others = Flight(["a"])
    others._owner = (0, 0)

    def steps():
        own = yield Wait(Flight(["a"]), 3600)
        late = yield Wait(others, 0)
        return own, late

    assert drive(steps()) == (None, None)
    assert not others.landed.cancelled()


def test_threads_and_tasks_wait_for_one_flight():
    flights, waiting = Flights(), threading.Barrier(3)
    flight = flights.claim(["a"])

    def steps():
        return (yield Wait(flight, 60))

    def thread():
        waiting.wait()
        return drive_blocking(steps(), MemoryStore(), None, print)

    def loop():
        async def tasks():
            two = [
                asyncio.create_task(
                    flow.arun(steps(), store=MemoryStore(), call=None, observe=print)
                )
                for _ in range(2)
            ]
            await asyncio.sleep(0)
            await asyncio.to_thread(waiting.wait)
            return await asyncio.gather(*two)

        return asyncio.run(tasks())

    with ThreadPoolExecutor(2) as pool:
        one, both = pool.submit(thread), pool.submit(loop)
        waiting.wait()
        flights.land(flight, {"a": b"1"})
        assert one.result() == {"a": b"1"}
        assert both.result() == [{"a": b"1"}] * 2


async def test_a_cancelled_waiter_leaves_the_flight_alone():
    flights = Flights()
    with ThreadPoolExecutor(1) as pool:
        flight = pool.submit(flights.claim, ["a"]).result()

    def steps():
        return (yield Wait(flight, 60))

    def waiter():
        return asyncio.create_task(
            flow.arun(steps(), store=MemoryStore(), call=None, observe=print)
        )

    one, other = waiter(), waiter()
    await asyncio.sleep(0)
    one.cancel()
    with pytest.raises(asyncio.CancelledError):
        await one
    flights.land(flight, {"a": b"1"})
    assert await other == {"a": b"1"}


async def test_cancelling_reaches_the_flow():
    tidied = []

    def steps():
        try:
            yield Call(1)
        finally:
            tidied.append(True)

    async def call(_):
        await asyncio.Event().wait()

    task = asyncio.create_task(flow.arun(steps(), store=MemoryStore(), call=call, observe=print))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert tidied


async def test_a_coroutine_runs_from_sync_code_inside_a_loop():
    assert colours.run_coroutine(double_later(21)) == 42

    async def fail():
        raise KeyError("its own")

    with pytest.raises(KeyError, match="its own"):
        colours.run_coroutine(fail())


async def test_a_sync_model_does_not_block_the_loop():
    called = threading.Event()

    def call(_):
        assert called.wait(60)
        return threading.get_ident()

    task = asyncio.create_task(colours.awaitable(call)(1))
    await asyncio.sleep(0)
    called.set()
    assert await task != threading.get_ident()
