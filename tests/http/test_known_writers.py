"""A known request and whoever writes: what another process changes shows at the very next hit."""

import json
import os
import time
import types

import pytest

from askonce.http import HTTPCache
from askonce.http import known as module
from askonce.http.answer import Answer
from askonce.http.known import known
from askonce.stores import unwaiting
from askonce.stores.sqlite import SQLiteStore
from tests.http.server import completion
from tests.http.test_known import keep, understood
from tests.stores.another import another

TIMES = 300


class Counting(SQLiteStore):
    """Count look-ups."""

    looks = 0

    def read_at_once(self, key):
        self.looks += 1
        return super().read_at_once(key)


@pytest.fixture(autouse=True)
def no_disk_is_slow(monkeypatch):
    """Whatever else the machine does."""
    monkeypatch.setattr(unwaiting, "SLOW", 3600.0)


@pytest.fixture
def store(tmp_path):
    with Counting(tmp_path / "store.db") as store:
        store.works_in_loops = True
        yield store


@pytest.fixture
def cache(store):
    return HTTPCache(store)


def age(store):
    """Let the log be as if it was last written to some seconds ago."""
    then = time.time_ns() - 5_000_000_123
    os.utime(store._database.log, ns=(then, then))


def answers(found, store):
    """Tell what is answered, and whether that took a look into the store."""
    before = store.looks
    reply = found.reply()
    text = None
    if reply is not None:
        text = json.loads(b"".join(reply[1]))["choices"][0]["message"]["content"]
    return text, store.looks > before


def packed(exchange, text, **more):
    now = time.time()
    content = json.dumps(completion(text)).encode()
    answer = Answer(
        "body", content, now, more.get("expires", float("inf")), {}, more.get("tags", {})
    )
    return answer.pack(exchange.question.binding).hex()


def test_as_long_as_nobody_writes_nobody_looks(cache, store):
    exchange = understood(cache)
    keep(cache, exchange, text="one")
    found = known(cache, exchange)
    assert [answers(found, store) for _ in range(3)] == [("one", True)] * 3, "the log is fresh"
    age(store)
    assert answers(found, store) == ("one", True)
    assert [answers(found, store) for _ in range(3)] == [("one", False)] * 3


def test_what_another_process_changes_shows_at_once(cache, store):
    exchange = understood(cache)
    key = exchange.question.key
    found = known(cache, exchange)
    unseen = 0
    with another(store.path) as do:
        for number in range(TIMES):
            do("write", key, packed(exchange, f"{number}"))
            age(store)
            assert answers(found, store) == (f"{number}", True)
            unseen += not answers(found, store)[1]
            match number % 4:
                case 0:
                    do("delete", key)
                    assert answers(found, store)[0] is None
                case 1:
                    do("write", key, packed(exchange, "other"))
                    assert answers(found, store)[0] == "other"
                case 2:
                    do("write", key, packed(exchange, "tagged", tags={"t": "e"}))
                    assert answers(found, store)[0] is None, "its tag may be retired"
                case 3:
                    do("write", key, "00")
                    assert answers(found, store)[0] is None
            # What is no answer any more does not come back, either.
            age(store)
            assert answers(found, store)[0] == ("other" if number % 4 == 1 else None)
            assert answers(found, store)[0] == ("other" if number % 4 == 1 else None)
    # A machine that stands still for a second may have made some look again.
    assert unseen > TIMES / 2


@pytest.mark.parametrize("works_in_loops", [True, False])
def test_what_this_process_changes_shows_at_once(cache, store, works_in_loops):
    exchange = understood(cache)
    key = exchange.question.key
    found = known(cache, exchange)
    with SQLiteStore(store.path) as other:
        other.works_in_loops = works_in_loops
        for number in range(TIMES):
            keep(cache, exchange, text=f"{number}")
            age(store)
            assert answers(found, store)[0] == answers(found, store)[0] == f"{number}"
            entries = {key: bytes.fromhex(packed(exchange, "other"))}
            assert other.write_at_once(entries) or not other.write(entries)
            assert answers(found, store)[0] == "other"
            cache.store.delete([key])
            assert answers(found, store)[0] is None


def test_an_answer_expires_and_ages_without_a_look(cache, store, monkeypatch):
    now = time.time()
    monkeypatch.setattr(module, "time", types.SimpleNamespace(time=lambda: now))
    exchange = understood(cache)
    young = understood(cache, **{"cache-control": "max-age=1"})
    keep(cache, exchange, ttl=0.5, created=now)
    age(store)
    found = known(cache, exchange)
    assert answers(found, store) == ("Hi", True)
    now += 0.4
    assert answers(found, store) == ("Hi", False)
    now += 0.2
    assert answers(found, store) == (None, False)
    keep(cache, young, created=now - 0.9)
    age(store)
    found = known(cache, young)
    assert answers(found, store) == ("Hi", True)
    now += 0.2
    assert answers(found, store) == (None, False)


@pytest.mark.parametrize("step", [1.0, -0.1, 3600, -3600])
def test_no_stamp_is_trusted_for_longer_than_a_second(cache, store, monkeypatch, step):
    """As if a writer was stopped between what it wrote and its commit, or clocks were set."""
    now = time.time()
    monkeypatch.setattr(module, "time", types.SimpleNamespace(time=lambda: now))
    monkeypatch.setattr(store, "stamp", lambda: "the same", raising=False)
    exchange = understood(cache)
    keep(cache, exchange, text="one", created=now - 7200)
    found = known(cache, exchange)
    assert answers(found, store) == ("one", True)
    keep(cache, exchange, text="two", created=now - 7200)
    now += 0.999
    assert answers(found, store) == ("one", False)
    now += step - 0.999
    assert answers(found, store) == ("two", True)


def test_a_stamp_that_fails_is_left_to_the_flow(cache, store, monkeypatch):
    exchange = understood(cache)
    keep(cache, exchange)
    found = known(cache, exchange)

    def fail():
        raise OSError

    monkeypatch.setattr(store, "stamp", fail)
    assert found.reply() is None


def test_a_look_that_fails_makes_nothing_known(cache, store, monkeypatch):
    exchange = understood(cache)
    keep(cache, exchange)
    found = known(cache, exchange)
    age(store)
    with monkeypatch.context() as patches:
        patches.setattr(store, "read_at_once", lambda key: None)
        assert found.reply() is None
        assert found.reply() is None
    assert answers(found, store) == ("Hi", True)
