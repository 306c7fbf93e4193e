"""What a flow begins to read, and finishes later."""

import asyncio
import threading
from contextvars import ContextVar

import pytest

from askonce.core import flow
from askonce.core.flow import Begin, Finish
from askonce.stores.memory import MemoryStore
from tests.core.drivers import Broken, drive, drive_blocking

__all__ = ["drive"]


def begun_twice():
    one = yield Begin(["a/1", "a/2"])
    other = yield Begin(["a/3"])
    return (yield Finish(one)), (yield Finish(other))


def test_what_was_begun_is_there_in_the_end(drive):
    store = MemoryStore()
    store.write({"a/1": b"x", "a/3": b"z"})
    assert drive(begun_twice(), store) == ([b"x", None], [b"z"])


def test_a_broken_store_is_a_miss_for_what_was_begun_too(drive):
    events = []
    outcome = drive(begun_twice(), Broken(OSError("gone")), observe=events.append)
    assert outcome == ([None, None], [None])
    assert [(event.kind, event.count) for event in events] == [
        ("store_failed", 2),
        ("store_failed", 1),
    ]


def test_where_no_thread_can_be_had_it_is_read_all_the_same(monkeypatch):
    def cannot_start(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", cannot_start)
    store = MemoryStore()
    store.write({"a/1": b"x", "a/3": b"z"})
    assert drive_blocking(begun_twice(), store, None, print) == ([b"x", None], [b"z"])


def test_what_is_begun_is_read_in_the_callers_context(drive):
    seen = []
    variable = ContextVar("variable", default="nobody's")

    class Seeing(MemoryStore):
        def read_joined(self, keys):
            seen.append(variable.get())
            return self.read(keys)

        async def aread_joined(self, keys):
            return await asyncio.to_thread(self.read_joined, keys)

    token = variable.set("the caller's")
    try:
        drive(begun_twice(), Seeing())
    finally:
        variable.reset(token)
    assert seen == ["the caller's"] * 2


async def test_what_is_begun_in_a_loop_is_under_way_at_once():
    class Noting(MemoryStore):
        begun = 0

        async def aread_joined(self, keys):
            self.begun += 1
            await asyncio.sleep(0)
            return self.read(keys)

    store = Noting()

    def steps():
        one = yield Begin(["a/1"])
        assert store.begun == 1
        other = yield Begin(["a/2"])
        assert store.begun == 2
        return (yield Finish(one)), (yield Finish(other))

    assert await flow.arun(steps(), store=store, call=None, observe=print) == ([None], [None])


def test_no_thread_is_left_when_a_flow_has_ended():
    def steps():
        one = yield Begin(["a/1"])
        return (yield Finish(one))

    before = threading.active_count()
    for store in (MemoryStore(), Broken(OSError("gone"))):
        for _ in range(30):
            drive_blocking(steps(), store, None, lambda event: None)
            assert threading.active_count() == before


class Slow(MemoryStore):
    """Give nothing before it is told to."""

    def __init__(self):
        super().__init__()
        self.begun, self.go_on = threading.Event(), threading.Event()

    def read_joined(self, keys):
        self.begun.set()
        assert self.go_on.wait(30)
        return self.read(keys)


def test_a_flow_that_fails_does_not_wait_for_what_it_began():
    store = Slow()

    def steps():
        yield Begin(["a/1"])
        yield Begin(["a/2"])
        assert store.begun.wait(30)
        raise ValueError("enough")

    threads = set(threading.enumerate())
    try:
        with pytest.raises(ValueError, match="enough"):
            drive_blocking(steps(), store, None, print)
        assert not store.go_on.is_set()
    finally:
        store.go_on.set()
    for thread in set(threading.enumerate()) - threads:
        thread.join(30)
        assert not thread.is_alive()


async def test_cancelling_reaches_what_was_begun():
    class Waiting(MemoryStore):
        def __init__(self):
            super().__init__()
            self.under_way = 0

        async def aread_joined(self, keys):
            self.under_way += 1
            try:
                await asyncio.Event().wait()
            finally:
                self.under_way -= 1

    store = Waiting()
    task = asyncio.create_task(flow.arun(begun_twice(), store=store, call=None, observe=print))
    while store.under_way < 2:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert store.under_way == 0
