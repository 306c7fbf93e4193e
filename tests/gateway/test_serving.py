"""The gateway in a process of its own: hits and misses, streams, reload, workers, ends."""

import concurrent.futures
import json
import os
import signal
import threading
import urllib.request

import httpx2
import pytest

from tests.gateway.running import configured, gateway
from tests.http import server as servers

CHAT = "/v1/chat/completions"
ANSWER = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}


def body(text="hi", **more):
    return {"model": "m", "messages": [{"role": "user", "content": text}], **more}


@pytest.fixture
def provider():
    with servers.running(servers.chat) as server:
        yield server


@pytest.fixture
def config(tmp_path, provider):
    return configured(tmp_path, provider.address)


def ask(address, content, path=CHAT, credential="Bearer sk-1", **headers):
    return httpx2.post(
        address + path,
        json=content,
        headers={"Authorization": credential, **headers},
        timeout=30,
        trust_env=False,
    )


def kept(address, content):
    """Ask for what was asked before, until it is no longer on its way into the store."""
    while "collapsed" in (reply := ask(address, content)).headers["cache-status"]:
        pass
    return reply


@pytest.mark.parametrize("stream", [False, True])
def test_asked_twice_the_provider_hears_it_once(config, provider, stream):
    with gateway(config) as running:
        first = ask(running.address, body(stream=stream))
        second = kept(running.address, body(stream=stream))
        third = ask(running.address, body(stream=stream))
        other = ask(running.address, body(stream=not stream))
        assert first.status_code == 200, first.text
        assert first.content == second.content == third.content
        assert [one.headers["cache-status"] for one in (first, second, third)] == [
            "askonce; fwd=miss",
            "askonce; hit",
            "askonce; hit",
        ]
        assert other.headers["cache-status"] == "askonce; hit"
        assert provider.count == 1
        assert len(first.headers.get_list("date")) == 1


def test_other_credentials_share_nothing(config, provider):
    with gateway(config) as running:
        for _ in range(2):
            for credential in ("Bearer a", "Bearer b", ""):
                assert ask(running.address, body(), credential=credential).status_code == 200
    assert provider.count == 3


def test_reload_keeps_requests_under_way(config, tmp_path, provider):
    held, go_on = threading.Event(), threading.Event()

    def slow(asked):
        # Others may come before the new configuration is there.
        if b"slow" not in asked.body:
            return servers.chat(asked)
        held.set()
        assert go_on.wait(30)
        return servers.chat(asked)

    with servers.running(servers.chat) as other, gateway(config) as running:
        provider.answer = slow
        with concurrent.futures.ThreadPoolExecutor() as pool:
            under_way = pool.submit(ask, running.address, body("slow"))
            assert held.wait(30)
            config.write_text(config.read_text().replace(provider.address, other.address))
            running.reload()
            while other.count == 0:
                ask(running.address, body(os.urandom(4).hex()))
            go_on.set()
            assert under_way.result().status_code == 200
        asked = provider.count
        assert ask(running.address, body("new")).status_code == 200
        assert provider.count == asked
        config.write_text("[server]\nspeed = 3\n")
        running.reload()
        while not any("not changed" in line and "server.speed" in line for line in running.log):
            assert ask(running.address, body("new")).status_code == 200
        assert running.stop() in (0, -signal.SIGTERM)


def test_workers_share_flights_and_survive_each_other(config, provider):
    prompts = [str(number) for number in range(40)]
    with gateway(config, "--workers", "2") as running:

        def client(_):
            with httpx2.Client(trust_env=False, timeout=60) as http:
                for prompt in prompts:
                    reply = http.post(running.address + CHAT, json=body(prompt))
                    assert reply.status_code == 200, reply.text

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(client, range(8)))
        assert provider.count == len(prompts)
        status, text = running.get("/metrics")
        assert status == 200
        assert 'askonce_misses_total{model="' in text


def test_ending_finishes_streams(config, provider):
    asked = threading.Event()
    go_on = threading.Event()
    whole = list(servers.chat(servers.Asked("POST", CHAT, [], json.dumps(body(stream=True)).encode(), 0)))

    def halves(_):
        yield whole[0]
        asked.set()
        assert go_on.wait(30)
        yield from whole[1:]

    with gateway(config) as running:
        provider.answer = halves
        with concurrent.futures.ThreadPoolExecutor() as pool:
            under_way = pool.submit(ask, running.address, body("s", stream=True))
            assert asked.wait(30)
            running.process.terminate()
            go_on.set()
            reply = under_way.result()
        assert reply.status_code == 200
        assert "[DONE]" in reply.text
        assert running.process.wait(30) in (0, -signal.SIGTERM)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1//chat/completions", 400),
        ("/v1/../secret", 400),
        ("/v1/%2e%2e/secret", 400),
        ("/v1/a%2fb", 400),
        ("/elsewhere", 404),
        ("//evil.example/v1/models", 400),
    ],
)
def test_tricks_with_paths_lead_nowhere(config, provider, path, status):
    with gateway(config) as running:
        with httpx2.Client(trust_env=False) as http:
            request = http.build_request("GET", running.address)
            request.extensions["target"] = path.encode()
            assert http.send(request).status_code == status
        assert provider.count == 0


def test_a_check_reports_line_and_key(tmp_path):
    import subprocess
    import sys

    path = tmp_path / "bad.toml"
    path.write_text("[server]\nport = 8787\nspeed = 3\n\n[[upstreams]]\nname = 'a'\nbase_url = 'x'\n")
    outcome = subprocess.run(
        [sys.executable, "-m", "askonce.cli", "serve", "--config", str(path), "--check"],
        capture_output=True,
        text=True,
    )
    assert outcome.returncode == 1
    assert "line 3: server.speed: there is no such key" in outcome.stderr
    assert "line 7: upstreams.0.base_url" in outcome.stderr
