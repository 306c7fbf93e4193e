"""Stores and observers that fail, and many callers of one key."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from langchain_core.outputs import Generation

from askonce.core.store import Store
from askonce.errors import StoreError
from askonce.integrations.langchain import SQLiteCache, StoreCache
from tests.integrations.langchain.chat_models import CountingChat


def test_same_key_from_many_threads_raises_nothing(tmp_path):
    caches = [SQLiteCache(tmp_path / "answers.db") for _ in range(4)]

    def work(number):
        cache = caches[number % 4]
        for _ in range(25):
            cache.update("prompt", "model", [Generation(text=f"text {number}")])
            assert cache.lookup("prompt", "model")[0].text.startswith("text")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


def test_same_key_from_many_processes_raises_nothing(tmp_path):
    program = """if True:
        import sys
        from langchain_core.outputs import Generation
        from askonce.integrations.langchain import SQLiteCache
        cache = SQLiteCache(sys.argv[1])
        for number in range(100):
            cache.update(f"prompt {number % 5}", "model", [Generation(text=f"text {number % 5}")])
            (found,) = cache.lookup(f"prompt {number % 5}", "model")
            assert found.text == f"text {number % 5}"
    """
    arguments = [sys.executable, "-W", "error", "-c", program, tmp_path / "answers.db"]
    processes = [
        subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) for _ in range(4)
    ]
    outcomes = [(process.communicate()[1], process.returncode) for process in processes]
    assert outcomes == [("", 0)] * 4


class BrokenStore(Store):
    def read(self, keys):
        raise StoreError("no read")

    def write(self, entries, *, expires=0.0):
        raise RuntimeError("no write")

    def delete(self, keys):
        raise StoreError("no delete")

    def keys(self, prefix=""):
        raise StoreError("no keys")
        yield

    def close(self):
        pass


async def test_a_failing_store_never_loses_a_paid_answer():
    events = []
    model = CountingChat(cache=StoreCache(BrokenStore(), observe=events.append))
    assert model.invoke("hi").content == "answer 1"
    assert (await model.ainvoke("hi")).content == "answer 2"
    assert {event.kind for event in events} == {"miss", "store_failed"}
    with pytest.raises(StoreError):
        model.cache.clear()


async def test_a_failing_observer_breaks_no_call():
    def observe(event):
        raise RuntimeError(event.kind)

    model = CountingChat(cache=StoreCache("memory://", observe=observe))
    assert model.invoke("hi").content == (await model.ainvoke("hi")).content


def test_a_cache_that_is_down_in_the_middle_breaks_no_call(tmp_path):
    path = tmp_path / "answers.db"
    model = CountingChat(cache=SQLiteCache(path))
    model.invoke("hi")
    path.write_bytes(b"not a database any more" * 1000)
    for rest in tmp_path.glob("answers.db-*"):
        rest.unlink()
    assert model.invoke("other").content
    assert model.invoke("hi").content
