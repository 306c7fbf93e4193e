"""What the provider accepted, for how long, and by which provider."""

import asyncio
import json

import pytest

from askonce.gateway import acceptance
from tests.gateway.answers import Response, plain, stream
from tests.gateway.in_process import InProcess, seeded
from tests.gateway.isolation.strict_provider import CHAT
from tests.gateway.questions import Question


class Clock:
    def __init__(self):
        self.now = 1_800_000_000.0

    def time(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(acceptance, "time", clock)
    return clock


class Memory:
    """Be a provider in this process."""

    def __init__(self):
        self.accepts = {b"Bearer one", b"Bearer two"}
        self.count = 0
        self.paths = []
        self.status = 0
        self.check = 200

    def __call__(self, question):
        self.count += 1
        self.paths.append(question.path)
        nonce = f"{self.count:08x}"
        given = dict(question.headers).get(b"authorization")
        if self.status:
            return self.say(self.status, b"{}", nonce)
        if given not in self.accepts:
            return self.say(401, b'{"error":{"message":"no"}}', nonce)
        if question.path == "/v1/models":
            return self.say(self.check, b"{}", nonce)
        text = f"D{question.digest}N{nonce}Z"
        if question.wants_stream:
            return self.say(200, b"".join(stream(CHAT, text, seeded(1))), nonce, b"text/event-stream")
        return self.say(200, json.dumps(plain(CHAT, text)).encode(), nonce)

    @staticmethod
    def say(status, body, nonce, kind=b"application/json"):
        head = b"HTTP/1.1 %d X\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
        return Response([head % (status, kind, len(body)) + body], nonce, True, status)


def serve(memory, *, check, share="credential", verify_for=100, trust=1000, more=()):
    upstream = {"name": "fake", "base_url": "http://up.test/v1", "paths": ["/v1/*"]}
    return InProcess(
        memory,
        cache={"store": "memory://", "share": share},
        access={"verify_for": verify_for, "trust_when_down": trust},
        upstreams=[*more, {**upstream, "check": "/v1/models"} if check else upstream],
    )


def question(prompt="hi", credential="one", target=CHAT, *, is_stream=False, **headers):
    body = {"model": "m", "messages": [{"role": "user", "content": prompt}]}
    if is_stream:
        body["stream"] = True
    told = [(b"host", b"x")]
    if credential:
        told.append((b"authorization", f"Bearer {credential}".encode()))
    told += [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Question("POST", target, told, json.dumps(body).encode())


@pytest.mark.parametrize("check", [True, False], ids=["check", "nocheck"])
@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_credential_that_is_accepted_no_longer_gets_nothing_kept(clock, check, is_stream):
    memory = Memory()
    ask = question(is_stream=is_stream)
    async with serve(memory, check=check) as served:
        assert (await served.ask(ask)).status == 200
        assert "hit" in (await served.ask(ask)).outcome
        memory.accepts = set()
        clock.now += 99
        assert "hit" in (await served.ask(ask)).outcome
        clock.now += 2
        for _ in range(3):
            got = await served.ask(ask)
            assert got.status == 401 and got.json() == {"error": {"message": "no"}}
        assert (await served.ask(question("other"))).status == 401
        memory.accepts = {b"Bearer one"}
        got = await served.ask(ask)
        assert got.status == 200
        assert "hit" in (await served.ask(ask)).outcome


@pytest.mark.parametrize("check", [True, False], ids=["check", "nocheck"])
@pytest.mark.parametrize("fails", ["down", 429, 503])
async def test_while_the_provider_is_down_who_was_accepted_not_long_ago_goes_on(
    clock, check, fails
):
    memory = Memory()
    async with serve(memory, check=check, trust=1000) as served:
        first = await served.ask(question())
        assert first.status == 200
        clock.now += 500
        if fails == "down":
            served.provider.is_down = True
            state = served.gateway._state
            for way in state.ways.values():
                await way.transport.aclose()
        else:
            memory.status = fails
        assert (await served.ask(question())).body == first.body
        for credential in ("two", "bad", ""):
            assert (await served.ask(question(credential=credential))).status in (502, 429, 503)
        clock.now += 600
        assert (await served.ask(question())).status in (502, 429, 503)


async def test_trust_may_be_none(clock):
    memory = Memory()
    async with serve(memory, check=True, trust=0) as served:
        assert (await served.ask(question())).status == 200
        clock.now += 101
        memory.status = 503
        assert (await served.ask(question())).status == 503


async def test_a_check_is_one_request_for_all_who_wait(clock):
    memory = Memory()
    async with serve(memory, check=True) as served:
        await served.ask(question())
        memory.paths.clear()
        clock.now += 101
        gots = await asyncio.gather(*(served.ask(question()) for _ in range(20)))
        assert all("hit" in got.outcome for got in gots)
        assert memory.paths == ["/v1/models"]


async def test_a_check_that_says_nothing_proves_nothing(clock):
    memory = Memory()
    memory.check = 404
    async with serve(memory, check=True, share="everyone") as served:
        await served.ask(question())
        memory.paths.clear()
        assert (await served.ask(question(credential="two"))).status == 200
        assert memory.paths == ["/v1/models", CHAT]
        assert (await served.ask(question(credential="bad"))).status == 401


@pytest.mark.parametrize("check", [True, False], ids=["check", "nocheck"])
@pytest.mark.parametrize("is_stream", [False, True])
async def test_shared_by_everyone_is_shared_by_all_who_are_accepted(clock, check, is_stream):
    memory = Memory()
    async with serve(memory, check=check, share="everyone") as served:
        ask = {"is_stream": is_stream}
        assert (await served.ask(question(**ask))).status == 200
        for credential in ("bad", "", "Two"):
            for _ in range(2):
                assert (await served.ask(question(credential=credential, **ask))).status == 401
        got = await served.ask(question(credential="two", **ask))
        assert got.status == 200 and ("hit" in got.outcome) == check
        asked = memory.count
        assert "hit" in (await served.ask(question(credential="two", **ask))).outcome
        assert memory.count == asked
        memory.accepts = set()
        clock.now += 101
        assert (await served.ask(question(credential="two", **ask))).status == 401


@pytest.mark.parametrize("check", [True, False], ids=["check", "nocheck"])
async def test_nobody_unproven_joins_who_is_asking_already(clock, check):
    """A flight of somebody else's must not carry whom the provider would turn away."""
    memory = Memory()
    async with serve(memory, check=check, share="everyone") as served:
        credentials = ("one", "bad", "", "bad", "one")
        gots = await asyncio.gather(*(served.ask(question(credential=one)) for one in credentials))
        assert [got.status for got in gots] == [200, 401, 401, 401, 200]


async def test_what_one_provider_accepts_is_nothing_to_another(clock):
    """Else an open server of one's own would let in to what a closed one has answered."""
    memory = Memory()
    free = {"name": "free", "base_url": "http://free.test/v1"}

    def answer(asked):
        host = dict(asked.headers)[b"host"]
        if host == b"free.test":
            memory.accepts.add(dict(asked.headers).get(b"authorization"))
            try:
                return memory(asked)
            finally:
                memory.accepts.discard(b"Bearer bad")
        return memory(asked)

    async with serve(answer, check=False, share="everyone", more=[free]) as served:
        assert (await served.ask(question())).status == 200
        assert (await served.ask(question(credential="bad", target=f"/free{CHAT}"))).status == 200
        assert (await served.ask(question(credential="bad"))).status == 401
        clock.now += 99
        memory.accepts.clear()
        # Neither does asking there make a credential last longer here.
        assert (await served.ask(question("again", target=f"/free{CHAT}"))).status == 200
        memory.accepts.clear()
        clock.now += 2
        assert (await served.ask(question())).status == 401
