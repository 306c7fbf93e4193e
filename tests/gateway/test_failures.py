"""What fails around the gateway: stores, providers, callers, workers. It goes on."""

import asyncio
import concurrent.futures
import contextlib
import json
import os
import pathlib
import re
import signal
import threading
import time

import httpx2
import pytest

from tests.gateway.generating import Fault, Question, Response, plain, stream
from tests.gateway.in_process import InProcess, seeded, settled
from tests.gateway.raw import talk
from tests.gateway.running import configured, gateway
from tests.http import server as servers
from tests.servers.ports import free_port
from tests.servers.redis import PROGRAMS, RedisServer

CHAT, VECTORS = "/v1/chat/completions", "/v1/embeddings"
HTTP = httpx2.Client(trust_env=False, verify=False, limits=httpx2.Limits(max_connections=None))
PATIENCE = 60.0
"""Seconds after which what should come about counts as lost."""


class Steered:
    """Be a provider that answers each prompt by its own, or as a test tells it to."""

    def __init__(self):
        self.steps = {}

    def __call__(self, asked):
        if asked.method == "GET":
            return servers.plain({"data": []})
        body = asked.json()
        if asked.target == VECTORS:
            prompt = body["input"]
        else:
            prompt = body["messages"][0]["content"]
        step = self.steps.get(prompt)
        if step is not None:
            return step(asked)
        return proper(asked)

    def count(self, server, prompt):
        return sum(prompt.encode() in asked.body for asked in server.asked)


def proper(asked):
    body = asked.json()
    if asked.target == VECTORS:
        data = [{"object": "embedding", "index": 0, "embedding": [len(body["input"]) / 2, 0.5]}]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        return servers.plain({"object": "list", "data": data, "model": "m", "usage": usage})
    text = f"answer to {body['messages'][0]['content']}"
    if body.get("stream"):
        return servers.chunked(servers.events(text[:4], text[4:]))
    return servers.plain(servers.completion(text))


def asking(prompt, **more):
    return {"model": "m", "messages": [{"role": "user", "content": prompt}], **more}


def ask(running, prompt, path=CHAT, *, timeout=PATIENCE, headers=(), **more):
    content = {"model": "m", "input": prompt} if path == VECTORS else asking(prompt, **more)
    return HTTP.post(
        running.address + path,
        json=content,
        headers={"authorization": "Bearer sk", **dict(headers)},
        timeout=timeout,
    )


def is_hit(reply):
    """Tell whether an answer was kept before; it may be on its way into the store still."""
    return "askonce; hit" in reply.headers["cache-status"] or "collapsed" in reply.headers["cache-status"]


def ask_anew(running, prompt, **more):
    """Ask until the answer is not that of somebody who was asking already."""
    while "collapsed" in (reply := ask(running, prompt, **more)).headers.get("cache-status", ""):
        pass
    return reply


def kept(running, prompt, **more):
    """Ask, and give the answer when it is in the store."""
    good = ask(running, prompt, **more)
    assert good.status_code == 200
    control = {"cache-control": "only-if-cached, stale-while-revalidate=3600"}
    until(lambda: ask(running, prompt, headers=control, **more).status_code == 200, "it is kept")
    return good


def until(condition, what):
    """Look until something has come about; each look is a request or as slow as one."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < PATIENCE, what


@pytest.fixture(scope="module", autouse=True)
def http():
    yield
    HTTP.close()


@pytest.fixture(scope="module")
def steered():
    return Steered()


@pytest.fixture(scope="module")
def provider(steered):
    with servers.running(steered) as server:
        yield server


@pytest.fixture(scope="module")
def redis():
    server = RedisServer(PROGRAMS["redis8"])
    server.start()
    yield server
    server.remove()


@pytest.fixture(scope="module")
def shared(tmp_path_factory, provider, redis):
    """Serve on a Redis."""
    folder = tmp_path_factory.mktemp("shared")
    config = configured(folder, provider.address, store=redis.url("/0"))
    with gateway(config) as running:
        yield running
        assert running.stop() in (0, -15)


# The store


def test_while_the_store_is_paused_everybody_is_served(shared, redis, provider, steered):
    kept(shared, "before")
    asked = provider.count
    with redis.paused():
        for number in range(30):
            # From the provider each time, right, and whole.
            for path, more in ((CHAT, {}), (CHAT, {"stream": True}), (VECTORS, {})):
                prompt = f"paused {number} {more}"
                reply = ask(shared, prompt, path, **more)
                assert reply.status_code == 200
                assert not is_hit(reply)
                assert path == VECTORS or more or f"answer to {prompt}" in reply.text
        assert shared.get("/healthz")[0] == 200
        assert shared.get("/readyz")[0] == 503
        assert provider.count == asked + 90
        assert 'askonce_store_failures_total' in shared.get("/metrics")[1]
    until(lambda: shared.get("/readyz")[0] == 200, "the store is back")
    until(lambda: is_hit(ask(shared, "before")), "and what is in it is given again")


def test_a_store_that_comes_back_empty_is_filled_again(shared, redis):
    kept(shared, "lost")
    redis.kill()
    for _ in range(5):
        reply = ask(shared, "lost")
        assert reply.status_code == 200 and "askonce; hit" not in reply.headers["cache-status"]
    assert shared.get("/readyz")[0] == 503
    redis.start()
    until(lambda: is_hit(ask(shared, "lost")), "what is asked again is kept again")


def test_a_stream_goes_on_when_its_store_goes_away(shared, redis, steered):
    begun, go_on = threading.Event(), threading.Event()

    def halves(asked):
        pieces = list(proper(asked))
        yield from pieces[:2]
        begun.set()
        assert go_on.wait(PATIENCE)
        yield from pieces[2:]

    steered.steps["halved"] = halves
    with concurrent.futures.ThreadPoolExecutor() as pool:
        under_way = pool.submit(ask, shared, "halved", stream=True)
        assert begun.wait(PATIENCE)
        with redis.paused():
            go_on.set()
            reply = under_way.result()
    assert reply.status_code == 200 and "[DONE]" in reply.text
    until(lambda: shared.get("/readyz")[0] == 200, "the store is back")


def test_a_store_may_come_later(tmp_path, provider, steered):
    port = free_port()
    config = configured(tmp_path, provider.address, store=f"redis://127.0.0.1:{port}/0")
    with gateway(config) as running:
        for _ in range(3):
            for path in (CHAT, VECTORS):
                reply = ask(running, "early", path)
                assert reply.status_code == 200
                assert "hit" not in reply.headers.get("cache-status", "")
        assert running.get("/healthz")[0] == 200
        assert running.get("/readyz")[0] == 503
        server = RedisServer(PROGRAMS["redis8"], port=port)
        try:
            server.start()
            until(lambda: running.get("/readyz")[0] == 200, "the store is found")
            until(lambda: is_hit(ask(running, "early")), "and used")
        finally:
            server.remove()
        assert ask(running, "early").status_code == 200


def test_without_the_keys_store_nobody_comes_in(tmp_path, provider):
    port = free_port()
    more = f'credential_env = "PROVIDERS_KEY"\n[access]\nkeys = "redis://127.0.0.1:{port}/0"'
    config = configured(tmp_path, provider.address, more)
    asked = provider.count
    with gateway(config, PROVIDERS_KEY="sk-house") as running:
        for secret in ("x", f"ask-{'a' * 8}-{'b' * 43}"):
            for path in (CHAT, "/v1/files", "/nowhere"):
                reply = ask(running, "closed", path, headers={"authorization": f"Bearer {secret}"})
                assert reply.status_code == (401 if secret == "x" else 503), reply.text
        assert running.get("/healthz")[0] == 200
    assert provider.count == asked


# The provider


@pytest.fixture(scope="module")
def plainly(tmp_path_factory, provider):
    """Serve without stale answers, and wait for nobody long."""
    config = configured(tmp_path_factory.mktemp("plain"), provider.address, "timeout = 1")
    with gateway(config) as running:
        yield running
        assert running.stop() in (0, -15)


@pytest.fixture(scope="module")
def lenient(tmp_path_factory, provider):
    """Serve stale answers where the provider fails."""
    config = configured(tmp_path_factory.mktemp("stale"), provider.address, "timeout = 1")
    text = config.read_text().replace("[cache]", "[cache]\nstale_if_error = 3600\nttl = 0.001")
    config.write_text(text)
    with gateway(config) as running:
        yield running
        assert running.stop() in (0, -15)


def says(status, *headers, **error):
    body = {"error": {"message": "of the provider", **error}}
    return lambda asked: servers.plain(body, status, *headers)


def hangs(asked):
    return [servers.Hang]


def begins_and_hangs(asked):
    return [servers.head(200, ("Content-Type", "application/json"), ("Content-Length", "99")), servers.Hang]


BEFORE_ITS_HEAD = {
    "hang": (hangs, 504),
    "close": (lambda asked: [servers.Close], 502),
    "reset": (lambda asked: [servers.Reset], 502),
    "half a head": (lambda asked: [b"HTTP/1.1 200 OK\r\nContent-Ty", servers.Close], 502),
    "garbage": (lambda asked: [b"SSH-2.0-x\r\n", servers.Close], 502),
    "429": (says(429, ("Retry-After", "7"), ("x-ratelimit-reset-requests", "1s")), 429),
    "500": (says(500), 500),
    "503": (says(503, ("Retry-After", "1")), 503),
    "529": (says(529, type="overloaded_error"), 529),
}


@pytest.mark.parametrize("name", BEFORE_ITS_HEAD)
@pytest.mark.parametrize("kind", ["chat", "stream", "embeddings"])
def test_a_provider_that_fails_is_told_of_and_nothing_is_kept(plainly, steered, name, kind):
    step, status = BEFORE_ITS_HEAD[name]
    prompt = f"fails by {name} {kind}"
    path, more = (VECTORS, {}) if kind == "embeddings" else (CHAT, {"stream": kind == "stream"})
    steered.steps[prompt] = step
    reply = ask(plainly, prompt, path, **more)
    assert reply.status_code == status
    if status in (429, 500, 503, 529):
        # Its own error, untouched.
        assert reply.json()["error"]["message"] == "of the provider"
        assert reply.headers.get("retry-after") == {429: "7", 503: "1"}.get(status)
    else:
        assert reply.json()["error"]["message"].startswith("askonce: fake ")
        assert "127.0.0.1" not in reply.text
    steered.steps.pop(prompt)
    assert ask(plainly, prompt, path, **more).status_code == 200
    assert is_hit(ask(plainly, prompt, path, **more))


@pytest.mark.parametrize("name", BEFORE_ITS_HEAD)
@pytest.mark.parametrize("is_stream", [False, True])
def test_the_last_good_answer_stands_in_if_told_to(lenient, steered, name, is_stream):
    step, _ = BEFORE_ITS_HEAD[name]
    prompt = f"stands in for {name} {is_stream}"
    good = kept(lenient, prompt, stream=is_stream)
    steered.steps[prompt] = step
    reply = ask_anew(lenient, prompt, stream=is_stream)
    assert reply.status_code == 200
    assert reply.content == good.content
    assert re.fullmatch("askonce; hit; ttl=(0|-[0-9]+)", reply.headers["cache-status"])
    steered.steps.pop(prompt)
    fresh = ask(lenient, prompt, stream=is_stream)
    assert fresh.status_code == 200 and not is_hit(fresh)


def test_what_the_caller_did_wrong_is_no_failure_of_the_provider(lenient, steered):
    prompt = "wrong"
    kept(lenient, prompt)
    for status in (400, 401, 403, 404, 422):
        steered.steps[prompt] = says(status)
        reply = ask_anew(lenient, prompt)
        assert reply.status_code == status
        assert reply.json()["error"]["message"] == "of the provider"


def broken(*pieces, length=1000):
    head = servers.head(200, ("Content-Type", "application/json"), ("Content-Length", str(length)))
    return lambda asked: [head, *pieces]


CUT = {
    "a body that ends early": broken(b'{"choices": [', servers.Close),
    "a body that is reset": broken(b'{"choices": [', servers.Reset),
    "a body that hangs": broken(b'{"choices": [', servers.Hang),
    "no body": broken(servers.Close),
    "a stream that ends early": lambda asked: servers.chunked([servers.events("half")[1], servers.Close]),
    "a stream that is reset": lambda asked: servers.chunked([servers.events("half")[1], servers.Reset]),
    "a stream that hangs": lambda asked: servers.chunked([servers.events("half")[1], servers.Hang]),
}


@pytest.mark.parametrize("name", CUT)
@pytest.mark.parametrize("served", ["plainly", "lenient"])
def test_half_an_answer_shows_and_is_not_kept(request, steered, name, served):
    running = request.getfixturevalue(served)
    prompt = f"cut: {name}"
    is_stream = "stream" in name
    steered.steps[prompt] = CUT[name]
    for _ in range(2):
        with pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)):
            ask(running, prompt, stream=is_stream)
    steered.steps.pop(prompt)
    reply = ask(running, prompt, stream=is_stream)
    assert reply.status_code == 200 and not is_hit(reply)
    assert prompt[:4] in reply.text or is_stream


def test_all_who_wait_for_one_that_fails_get_an_answer(plainly, provider, steered):
    prompt = "fails once"
    begun = threading.Barrier(2)
    failed = []

    def once(asked):
        if not failed:
            failed.append(1)
            begun.wait(PATIENCE)
            return [servers.Close]
        return proper(asked)

    steered.steps[prompt] = once
    with concurrent.futures.ThreadPoolExecutor(9) as pool:
        first = pool.submit(ask, plainly, prompt)
        begun.wait(PATIENCE)
        others = [pool.submit(ask, plainly, prompt) for _ in range(8)]
        statuses = [first.result().status_code, *(one.result().status_code for one in others)]
    assert statuses[1:] == [200] * 8
    assert statuses[0] in (200, 502)


def test_a_provider_that_is_not_there(tmp_path):
    port = free_port()
    config = configured(tmp_path, f"http://127.0.0.1:{port}", "connect_timeout = 1")
    with gateway(config) as running:
        for path in (CHAT, VECTORS, "/v1/files"):
            reply = ask(running, "nobody", path)
            assert reply.status_code == 502
            assert str(port) not in reply.text
        assert running.get("/readyz")[0] == 200


def test_too_many_at_once_for_a_provider_are_told_so(tmp_path, provider, steered):
    go_on = threading.Event()

    def held(asked):
        assert go_on.wait(PATIENCE)
        return proper(asked)

    more = "connect_timeout = 0.2\nmax_connections = 2"
    with gateway(configured(tmp_path, provider.address, more)) as running:
        steered.steps |= {"held 1": held, "held 2": held}
        with concurrent.futures.ThreadPoolExecutor() as pool:
            under_way = [pool.submit(ask, running, f"held {number}") for number in (1, 2)]
            until(lambda: steered.count(provider, "held ") == 2, "both are asked")
            try:
                assert ask(running, "held out").status_code in (502, 503, 504)
            finally:
                go_on.set()
            assert [one.result().status_code for one in under_way] == [200, 200]
        assert ask(running, "held out").status_code == 200


class Tired:
    """Be a provider in this process that breaks off the second time on each connection."""

    def __init__(self):
        self.bodies = []

    def __call__(self, asked):
        self.bodies.append((asked.path, asked.body))
        if len(self.bodies) == 2:
            return Response([Fault.RESET], "00000000", False, 0, closes=True)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        body = json.dumps(plain(CHAT, "well")).encode()
        return Response([head % len(body) + body], "00000000", True, 200)


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_an_upload_is_whole_or_it_fails(is_chunked):
    """What has gone out on a connection that was lost cannot be sent once more."""
    tired = Tired()
    body = b"0123456789" * 500
    upload = Question("POST", "/v1/files", [(b"host", b"x")], body)
    upload.chunks = [body[:1000], body[1000:]] if is_chunked else None
    async with InProcess(tired) as served:
        assert (await served.ask(question())).status == 200
        await settled()
        got = await served.ask(upload)
        assert got.status == 502, got
        assert (await served.ask(upload)).status == 200
    assert {sent for path, sent in tired.bodies if path == "/v1/files"} == {body}


async def test_a_question_that_was_not_heard_is_asked_again():
    tired = Tired()
    async with InProcess(tired) as served:
        assert (await served.ask(question())).status == 200
        await settled()
        assert (await served.ask(question(prompt="other"))).status == 200
    assert len(tired.bodies) == 3


# Callers that go away


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


def question(kind="chat", prompt="gone"):
    headers = [(b"host", b"x"), (b"authorization", b"Bearer sk")]
    if kind == "embeddings":
        return Question("POST", VECTORS, headers, b'{"model": "m", "input": "gone"}')
    body = asking(prompt, stream=True) if kind == "stream" else asking(prompt)
    return Question("POST", CHAT, headers, json.dumps(body).encode())


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
    for _ in range(1000):
        await asyncio.sleep(0)
        if any(flight.is_awaited for flight in flights._flights.values()):
            return
    raise AssertionError("nobody waits")


async def asked(served):
    for _ in range(1000):
        await asyncio.sleep(0)
        if served.provider.asked:
            await settled()
            return
    raise AssertionError("nobody asks")


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
        leader = served.open(question(kind).raw())
        await asked(served)
        follower = served.open(question(kind).raw())
        await awaited(served)
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
        leader = served.open(question(kind).raw())
        await asked(served)
        follower = served.open(question(kind).raw())
        await awaited(served)
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


# Workers


def workers_of(process):
    found = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [
        int(pid)
        for pid in found
        if b"spawn_main" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def worker_that_asks(pids, port):
    """Tell which of some processes has a connection to a port of this machine."""
    wanted = f":{port:04X}"
    inodes = {
        line.split()[9]
        for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[2].endswith(wanted) and line.split()[3] == "01"
    }
    for pid in pids:
        for handle in pathlib.Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                name = os.readlink(handle)
                if name.startswith("socket:[") and name[8:-1] in inodes:
                    return pid
    raise AssertionError("nobody asks")


def test_a_worker_that_dies_while_it_asks_is_replaced_and_so_is_its_question(tmp_path, steered):
    with servers.running(steered) as provider:
        config = configured(tmp_path, provider.address)
        with gateway(config, "--workers", "2") as running:
            until(lambda: len(workers_of(running.process)) == 2, "both workers are there")
            prompt = "while it leads"
            begun = threading.Event()

            def hangs_first(asked):
                if begun.is_set():
                    return proper(asked)
                begun.set()
                return [servers.Hang]

            steered.steps[prompt] = hangs_first

            def persistent(_):
                # Who was on the one that died asks again, as the SDKs do.
                while True:
                    with contextlib.suppress(httpx2.TransportError):
                        return ask(running, prompt)

            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                first = pool.submit(persistent, 0)
                assert begun.wait(PATIENCE)
                others = [pool.submit(persistent, number) for number in range(7)]
                leader = worker_that_asks(workers_of(running.process), int(provider.host.split(":")[1]))
                os.kill(leader, signal.SIGKILL)
                replies = [one.result(PATIENCE) for one in (first, *others)]
            assert {reply.status_code for reply in replies} == {200}
            assert all("answer to while it leads" in reply.text for reply in replies)
            assert steered.count(provider, prompt) == 2
            until(
                lambda: len(set(workers_of(running.process)) - {leader}) == 2
                and running.get("/healthz")[0] == 200,
                "there are two workers again",
            )
            assert is_hit(ask(running, prompt))


# The server itself


def test_reloading_again_and_again_ends_no_stream(tmp_path, steered, provider):
    config = configured(tmp_path, provider.address)
    go_on = threading.Event()
    begun = threading.Semaphore(0)

    def halves(asked):
        pieces = list(proper(asked))
        yield from pieces[:2]
        begun.release()
        assert go_on.wait(PATIENCE)
        yield from pieces[2:]

    prompts = [f"reloaded {number}" for number in range(5)]
    steered.steps |= dict.fromkeys(prompts, halves)
    with gateway(config) as running, concurrent.futures.ThreadPoolExecutor() as pool:
        under_way = []
        for prompt in prompts:
            under_way.append(pool.submit(ask, running, prompt, stream=True))
            assert begun.acquire(timeout=PATIENCE)
            read = sum("read anew" in line for line in running.log)
            running.reload()
            until(
                lambda read=read: ask(running, "meanwhile").status_code == 200
                and sum("read anew" in line for line in running.log) > read,
                "the configuration is read anew",
            )
        go_on.set()
        for prompt, one in zip(prompts, under_way, strict=True):
            reply = one.result()
            assert reply.status_code == 200 and "[DONE]" in reply.text
        for prompt in prompts:
            assert is_hit(ask(running, prompt, stream=True))


def test_more_connections_than_allowed_are_told_so(tmp_path, provider):
    more = "[server]\nmax_connections = 10\nheader_timeout = 30"
    with gateway(configured(tmp_path, provider.address, more)) as running:
        with contextlib.ExitStack() as stack:
            for _ in range(30):
                stack.enter_context(talk(running.address, b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX"))
            with talk(running.address, b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n") as opened:
                found = opened.answer()
            assert found is not None and found.status == 503
            assert found.headers["connection"] == "close"
        until(lambda: ask(running, "room again").status_code == 200, "there is room again")
