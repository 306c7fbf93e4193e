"""Providers that fail: it is told of, nothing of it is kept, and a good answer may stand in."""

import concurrent.futures
import re
import threading

import httpx2
import pytest

from tests.gateway.failures.asking import (
    CHAT,
    PATIENCE,
    VECTORS,
    ask,
    ask_anew,
    is_hit,
    kept,
    until,
)
from tests.gateway.failures.steered import proper
from tests.gateway.running import configured, gateway
from tests.http import server as servers
from tests.servers.ports import free_port


HURRIED = """
[[upstreams]]
name = "hurried"
base_url = "{address}/v1"
timeout = 1
"""


def way_of(name):
    """Name the way to a provider that behaves so: nobody waits long where nothing comes."""
    return "hurried" if "hang" in name else "fake"


@pytest.fixture(scope="module")
def plainly(tmp_path_factory, provider):
    """Serve without stale answers."""
    folder = tmp_path_factory.mktemp("plain")
    config = configured(folder, provider.address, HURRIED.format(address=provider.address))
    with gateway(config) as running:
        yield running
        assert running.stop() in (0, -15)


@pytest.fixture(scope="module")
def lenient(tmp_path_factory, provider):
    """Serve stale answers where the provider fails."""
    folder = tmp_path_factory.mktemp("stale")
    config = configured(folder, provider.address, HURRIED.format(address=provider.address))
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
    reply = ask(plainly, prompt, f"/{way_of(name)}{path}", **more)
    assert reply.status_code == status
    if status in (429, 500, 503, 529):
        # Its own error, untouched.
        assert reply.json()["error"]["message"] == "of the provider"
        assert reply.headers.get("retry-after") == {429: "7", 503: "1"}.get(status)
    else:
        assert reply.json()["error"]["message"].startswith(f"askonce: {way_of(name)} ")
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
    reply = ask_anew(lenient, prompt, path=f"/{way_of(name)}{CHAT}", stream=is_stream)
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
            ask(running, prompt, f"/{way_of(name)}{CHAT}", stream=is_stream)
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

    # Also for those who do connect it has to be enough, on a busy machine.
    more = "connect_timeout = 2\nmax_connections = 2"
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
