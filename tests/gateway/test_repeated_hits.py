"""Repeated requests: what anybody changes in the store shows at the very next one."""

import asyncio
import json
import os
import time

import pytest

from askonce.stores import unwaiting
from askonce.stores.sqlite import SQLiteStore
from tests.gateway.answers import MARK, Response, plain
from tests.gateway.in_process import InProcess, settled
from tests.gateway.questions import CHAT, Question
from tests.stores.another import another

TIMES = 300


def question(prompt="hello", **headers):
    content = json.dumps({"model": "m", "messages": [{"role": "user", "content": prompt}]}).encode()
    told = {"authorization": "Bearer secret", "content-type": "application/json", **headers}
    pairs = [(name.encode(), value.encode()) for name, value in told.items()]
    return Question("POST", CHAT, [(b"host", b"gateway"), *pairs], content)


def answer(asked: Question) -> Response:
    nonce = os.urandom(4).hex()
    content = json.dumps(plain(CHAT, f"D{asked.digest}N{nonce}Z")).encode()
    head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n"
    whole = head.format(len(content)).encode() + content
    return Response([whole], nonce, is_good=True, status=200, payload=content)


@pytest.fixture(autouse=True)
def no_disk_is_slow(monkeypatch):
    """Whatever else the machine does."""
    monkeypatch.setattr(unwaiting, "SLOW", 3600.0)


@pytest.fixture
async def served(tmp_path):
    async with InProcess(answer, cache={"store": f"sqlite:///{tmp_path}/store.db"}) as served:
        await served.ask(question("warm"))
        await settled()
        yield served


@pytest.fixture
def looks(monkeypatch):
    found = []
    read = SQLiteStore.read_at_once

    def counted(self, key):
        found.append(key)
        return read(self, key)

    monkeypatch.setattr(SQLiteStore, "read_at_once", counted)
    return found


def age(served):
    then = time.time_ns() - 5_000_000_123
    os.utime(served.gateway._state.store._database.log, ns=(then, then))


async def nonce(served):
    """Ask, and tell which of the provider's answers it is, and whether it was kept."""
    got = await served.ask(question())
    assert got.status == 200 and got.is_whole
    ((_, found),) = set(MARK.findall(got.body))
    return found, "hit" in got.outcome


async def landed(served):
    """Let what is asked be stored; until then others are given what was asked before they came."""
    store = served.gateway._state.store
    async with asyncio.timeout(30):
        while store.flights._flights or store.leases._held:
            await asyncio.sleep(0.001)


async def remember(served):
    """Ask until the request is known by its bytes."""
    asked = len(served.provider.asked)
    found, _ = await nonce(served)
    await landed(served)
    age(served)
    for _ in range(3):
        assert await nonce(served) == (found, True)
    assert len(served.provider.asked) <= asked + 1
    return found


async def test_a_known_hit_does_not_even_look(served, looks):
    await remember(served)
    looks.clear()
    for _ in range(5):
        assert (await nonce(served))[1]
    assert len(looks) <= 1


async def test_what_another_process_forgets_is_asked_anew(served, looks):
    store = served.gateway._state.store
    unseen = 0
    with another(store.path) as do:
        for _ in range(TIMES):
            before = await remember(served)
            looks.clear()
            await nonce(served)
            unseen += not looks
            do("forget")
            after, was_kept = await nonce(served)
            assert not was_kept and after != before
    assert unseen > TIMES / 2


async def test_what_this_process_forgets_is_asked_anew(served):
    store = served.gateway._state.store
    for _ in range(TIMES // 3):
        before = await remember(served)
        keys = [key for key in store.keys() if not key.startswith("~")]
        await store.adelete(keys)
        after, was_kept = await nonce(served)
        assert not was_kept and after != before


async def test_a_new_answer_takes_the_place_of_the_old_one(served):
    for _ in range(TIMES // 3):
        before = await remember(served)
        got = await served.ask(question(**{"cache-control": "no-cache"}))
        ((_, fresh),) = set(MARK.findall(got.body))
        assert fresh != before
        assert await nonce(served) == (fresh, True)


async def test_what_is_too_old_is_asked_anew(served):
    await remember(served)
    aged = question(**{"cache-control": "max-age=0"})
    for _ in range(5):
        asked = len(served.provider.asked)
        got = await served.ask(aged)
        assert "hit" not in got.outcome
        assert len(served.provider.asked) == asked + 1
