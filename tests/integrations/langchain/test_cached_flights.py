"""Of calls that ask the same at the same moment, one asks the model: threads, tasks, processes."""

import asyncio
import contextlib
import multiprocessing
import os
import signal
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from askonce.integrations.langchain import cached
from askonce.stores import open_store
from askonce.stores.memory import MemoryStore
from tests.integrations.langchain.cached_models import AsyncStreamingChat, StreamingChat, StreamingLLM

WAITING = 60


def until(condition):
    """Wait for what another thread or process is about to do."""
    deadline = time.monotonic() + WAITING
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        threading.Event().wait(0.002)


def text_of(stream):
    return "".join(chunk.content for chunk in stream)


VERBS = {
    "invoke": lambda model: model.invoke("hi").content,
    "stream": lambda model: text_of(model.stream("hi")),
    "batch": lambda model: model.batch(["hi"])[0].content,
}


def held_up(model):
    """Shut the model's gate, so that calls pile up before it."""
    model.calls.gate.clear()
    return model


@pytest.mark.parametrize("leader", VERBS)
@pytest.mark.parametrize("url", ["memory", "sqlite"])
def test_threads_ask_once(leader, url, tmp_path):
    store = MemoryStore() if url == "memory" else f"sqlite:///{tmp_path}/answers.db"
    model = held_up(cached(StreamingChat(), store=store))
    with ThreadPoolExecutor(13) as pool:
        first = pool.submit(VERBS[leader], model)
        until(lambda: model.calls)
        others = [pool.submit(verb, model) for verb in VERBS.values() for _ in range(4)]
        model.calls.gate.set()
        answers = {each.result(WAITING) for each in (first, *others)}
    assert answers == {"answer 1 of streaming"}
    assert len(model.calls) == 1


async def test_tasks_ask_once():
    class Slow(AsyncStreamingChat):
        async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
            await asyncio.sleep(0)
            return await super()._agenerate(messages, stop, **kwargs)

    model = cached(Slow(), store=MemoryStore())

    async def stream():
        return text_of([chunk async for chunk in model.astream("hi")])

    answers = await asyncio.gather(*[model.ainvoke("hi") for _ in range(5)], *[stream() for _ in range(5)])
    assert len(await model.abatch(["hi"] * 8)) == 8
    assert {getattr(answer, "content", answer) for answer in answers} == {"answer 1 of streaming"}
    assert len(model.calls) == 1


async def test_a_task_waits_for_a_thread():
    model = held_up(cached(StreamingChat(), store=MemoryStore()))
    asking = asyncio.ensure_future(asyncio.to_thread(model.invoke, "hi"))
    while not model.calls:
        await asyncio.sleep(0)
    waiting = asyncio.ensure_future(model.ainvoke("hi"))
    await asyncio.sleep(0)
    model.calls.gate.set()
    assert (await waiting).content == (await asking).content == "answer 1 of streaming"
    assert len(model.calls) == 1


def test_who_waits_for_a_stream_that_breaks_asks_next():
    model = held_up(cached(StreamingChat(break_after=2), store=MemoryStore()))
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(VERBS["stream"], model)
        until(lambda: model.calls)
        others = [pool.submit(VERBS["invoke"], model) for _ in range(4)]
        model.calls.gate.set()
        with pytest.raises(ConnectionResetError):
            first.result(WAITING)
        answers = {other.result(WAITING) for other in others}
    assert answers == {"answer 2 of streaming"}


def test_who_waits_for_an_answer_that_is_not_kept_asks_for_itself():
    model = held_up(cached(StreamingChat(finish_reason="length"), store=MemoryStore()))
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(VERBS["invoke"], model) for _ in range(4)]
        until(lambda: model.calls)
        model.calls.gate.set()
        answers = {call.result(WAITING) for call in calls}
    assert len(answers) == len(model.calls) == 4


def test_a_thread_that_reads_a_stream_may_ask_the_same_meanwhile():
    model = cached(StreamingChat(), store=MemoryStore())
    stream = model.stream("hi")
    next(stream)
    assert model.invoke("hi").content == "answer 2 of streaming"
    assert text_of(stream) == " 1 of streaming"


async def test_a_task_that_reads_a_stream_may_ask_the_same_meanwhile():
    model = cached(AsyncStreamingChat(), store=MemoryStore())
    stream = model.astream("hi")
    await anext(stream)
    assert (await model.ainvoke("hi")).content == "answer 2 of streaming"
    assert model.invoke("hi").content == "answer 2 of streaming"
    assert text_of([chunk async for chunk in stream]) == " 1 of streaming"


def test_batches_that_overlap_do_not_wait_for_each_other():
    model = held_up(cached(StreamingLLM(), store=MemoryStore()))
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(model.batch, ["a", "b", "c"])
        until(lambda: len(model.calls) == 1)
        second = pool.submit(model.batch, ["d", "c", "a"])
        until(lambda: len(model.calls) == 2)
        model.calls.gate.set()
        answers = [first.result(WAITING), second.result(WAITING)]
    assert answers == [["a: 1", "b: 1", "c: 1"], ["d: 2", "c: 1", "a: 1"]]


def test_a_wait_that_takes_too_long_ends_in_asking():
    model = held_up(cached(StreamingChat(), store=MemoryStore(), wait=0.05))
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(VERBS["invoke"], model)
        until(lambda: len(model.calls) == 1)
        second = pool.submit(VERBS["invoke"], model)
        until(lambda: len(model.calls) == 2)
        model.calls.gate.set()
        assert {first.result(WAITING), second.result(WAITING)} == {"answer 1 of streaming", "answer 2 of streaming"}


class Marking(StreamingChat):
    """Leave a file for each call, and wait for the file `go`."""

    folder: str = ""

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        self.mark()
        return super()._generate(messages, stop, **kwargs)

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        self.mark()
        yield from super()._stream(messages, stop, **kwargs)

    def mark(self):
        folder = Path(self.folder)
        (folder / f"call-{os.getpid()}-{threading.get_ident()}").touch()
        until((folder / "go").exists)


def ask_in_threads(folder, url, streamed):
    store = open_store(url)
    store.leases.seconds = 600.0
    model = cached(Marking(folder=folder), store=store, ignore=["folder"])
    verbs = [VERBS["stream"], VERBS["invoke"]]
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(verbs[(number + streamed) % 2], model) for number in range(4)]
        (Path(folder) / f"ready-{os.getpid()}").touch()
        answers = {call.result(WAITING) for call in calls}
    (Path(folder) / f"done-{os.getpid()}").write_text(",".join(answers))
    store.close()


def start(folder, count, url):
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=ask_in_threads, args=(str(folder), url, number % 2))
        for number in range(count)
    ]
    for process in processes:
        process.start()
    return processes


def test_processes_ask_once_and_a_killed_leader_costs_one_call_more(tmp_path):
    url = f"sqlite:///{tmp_path}/answers.db"
    processes = start(tmp_path, 3, url)
    until(lambda: len(list(tmp_path.glob("ready-*"))) == 3 and list(tmp_path.glob("call-*")))
    (call,) = tmp_path.glob("call-*")
    leader = int(call.name.split("-")[1])
    os.kill(leader, signal.SIGKILL)
    (tmp_path / "go").touch()
    (dead,) = (process for process in processes if process.pid == leader)
    dead.join()
    # Nobody renews its claim any more: in place of the time that it was good for, it is ended.
    with contextlib.closing(sqlite3.connect(tmp_path / "answers.db")) as database, database:
        assert database.execute("UPDATE askonce_leases SET expires = 0").rowcount == 1
    for process in processes:
        process.join(WAITING)
    answers = [path.read_text() for path in tmp_path.glob("done-*")]
    assert answers == ["answer 1 of streaming"] * 2
    assert len(list(tmp_path.glob("call-*"))) == 2
