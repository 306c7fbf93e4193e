"""Callers that go away: it takes the answer from nobody, and the last one ends the asking."""

import asyncio
import contextlib
import json
import threading

import pytest

from tests.gateway.answers import Response, plain, stream
from tests.gateway.failures.asking import CHAT, PATIENCE, asking, question
from tests.gateway.in_process import InProcess, seeded, settled
from tests.gateway.raw import talk
from tests.http import server as servers


class Gated:
    """Be a provider in this process whose answers wait for a word."""

    def __init__(self):
        self.gate = asyncio.Event()
        self.count = 0

    def __call__(self, question):
        self.count += 1
        gate = self.gate
        if b"warm" in question.body:
            self.count, gate = 0, asyncio.Event()
            gate.set()
        text = f"D{question.digest}N{self.count:08x}Z and more"
        if question.wants_stream:
            events = list(stream(CHAT, text, seeded(0)))
            begin = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
            return Response(
                [begin + events[0], gate, *events[1:]], f"{self.count:08x}", True, 200, True
            )
        if question.is_embeddings:
            data = [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}]
            body = json.dumps({"object": "list", "data": data, "model": "m"}).encode()
        else:
            body = json.dumps(plain(CHAT, text)).encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        return Response([gate, head % len(body), body], f"{self.count:08x}", True, 200)


@contextlib.asynccontextmanager
async def serving(gated, **cache):
    """Serve somebody whose credential is known to be good."""
    async with InProcess(gated, cache={"store": "memory://", **cache}) as served:
        assert (await served.ask(question(prompt="warm"))).status == 200
        await settled()
        served.provider.asked.clear()
        yield served


async def awaited(served):
    """Let everything go on until somebody waits for what another asks."""
    flights = served.gateway._state.store.flights
    async with asyncio.timeout(PATIENCE):
        while not any(flight.is_awaited for flight in flights._flights.values()):
            await asyncio.sleep(0)


async def asked(served):
    async with asyncio.timeout(PATIENCE):
        while not served.provider.asked:
            await asyncio.sleep(0)
    await settled()


async def two_waiting(served, kind):
    """Open two connections on which one question is asked: by the first, for both."""
    leader = served.open(question(kind).raw())
    await asked(served)
    follower = served.open(question(kind).raw())
    await awaited(served)
    return leader, follower


KINDS = ("chat", "stream", "embeddings")


@pytest.mark.parametrize("kind", KINDS)
async def test_who_goes_away_alone_ends_the_asking(kind):
    gated = Gated()
    async with serving(gated) as served:
        one = served.open(question(kind).raw())
        await asked(served)
        one.leave()
        await settled()
        assert served.provider.connections[-1].is_closed
        gated.gate.set()
        again = await served.ask(question(kind))
        assert again.status == 200 and "hit" not in again.outcome
        assert gated.count == 2
        assert len(asyncio.all_tasks()) < 6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("who", ["leader", "follower"])
async def test_who_goes_away_takes_the_answer_from_nobody(kind, who):
    gated = Gated()
    async with serving(gated) as served:
        leader, follower = await two_waiting(served, kind)
        gone, stays = (leader, follower) if who == "leader" else (follower, leader)
        gone.leave()
        await settled()
        assert not served.provider.connections[-1].is_closed
        gated.gate.set()
        got = await stays.got()
        assert got.status == 200 and got.is_whole
        assert gated.count == 1
        assert "hit" in (await served.ask(question(kind))).outcome


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first", ["leader", "follower"])
async def test_when_the_last_who_waits_goes_away_too_the_asking_ends(kind, first):
    gated = Gated()
    async with serving(gated) as served:
        leader, follower = await two_waiting(served, kind)
        order = (leader, follower) if first == "leader" else (follower, leader)
        for one in order:
            one.leave()
            await settled()
        # Who asks looks again now and then whether anybody still waits.
        async with asyncio.timeout(PATIENCE):
            while not served.provider.connections[-1].is_closed:
                await asyncio.sleep(0.01)
        gated.gate.set()
        again = await served.ask(question(kind))
        assert again.status == 200 and "hit" not in again.outcome


@pytest.mark.parametrize("kind", KINDS)
async def test_an_answer_may_be_wanted_whoever_goes_away(kind):
    gated = Gated()
    async with serving(gated, on_disconnect="finish") as served:
        one = served.open(question(kind).raw())
        await asked(served)
        one.leave()
        await settled()
        assert not served.provider.connections[-1].is_closed
        gated.gate.set()
        await settled()
        got = await served.ask(question(kind))
        assert "hit" in got.outcome
        assert gated.count == 1


@pytest.mark.parametrize("is_stream", [False, True])
def test_over_a_real_connection_a_caller_that_leaves_is_noticed(shared, steered, is_stream):
    begun, left = threading.Event(), threading.Event()
    prompt = f"leaves {is_stream}"

    def endless(asked):
        try:
            if is_stream:
                yield servers.head(200, ("Content-Type", "text/event-stream"))
            while True:
                yield b": wait\n\n" if is_stream else b"HTTP/1.1 103 Early Hints\r\n\r\n"
                begun.set()
                left.wait(0.01)
        finally:
            left.set()

    steered.steps[prompt] = endless
    body = json.dumps(asking(prompt, stream=is_stream)).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    with talk(shared.address, head.encode() + body) as opened:
        assert begun.wait(PATIENCE)
        if is_stream:
            opened.more()
    assert left.wait(PATIENCE), "the provider is still asked"
