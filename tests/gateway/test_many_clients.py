"""Many clients that ask the same at once, of two workers or of two gateways: each is asked once."""

import concurrent.futures
import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator

import httpx2
import pytest

from tests.gateway.running import configured, gateway
from tests.http import server as servers
from tests.servers.postgres import PATIENT, binaries
from tests.servers.postgres import running as postgres
from tests.servers.redis import running as redis

CLIENTS = 8
PROMPTS = [f"What is {number} squared?" for number in range(100)]
CHECK = 'check = "/v1/models"'
"""So that the credential is known to be good before the first answer is kept."""


def digest(prompt: str) -> str:
    return hashlib.sha256(prompt.encode()).hexdigest()


def answer(asked: servers.Asked) -> servers.Answer:
    """Answer with the digest of the question."""
    if asked.method == "GET":
        return servers.plain({"object": "list", "data": []})
    body = asked.json()
    text = digest(body["messages"][-1]["content"])
    if body.get("stream"):
        return servers.chunked(servers.events(*text.partition("0")))
    return servers.plain(servers.completion(text))


@pytest.fixture
def provider() -> Iterator[servers.Server]:
    with servers.running(answer) as server:
        yield server


def prompts(provider: servers.Server) -> list[str]:
    """Give what the provider was asked, in order of the prompts."""
    chats = [asked.json() for asked in provider.asked if asked.method == "POST"]
    asked = [chat["messages"][-1]["content"] for chat in chats]
    return sorted(asked, key=lambda prompt: (len(prompt), prompt))


def ask_all(*addresses: str) -> list[str]:
    """Have every client ask every prompt, all at once; give what became of each request.

    Every other client asks for streams.
    """
    start = threading.Barrier(CLIENTS)

    def client(number: int) -> list[str]:
        outcomes = []
        address = addresses[number // 2 % len(addresses)]
        with httpx2.Client(trust_env=False, timeout=120) as http:
            start.wait(60)
            for prompt in PROMPTS:
                reply = http.post(
                    f"{address}/v1/chat/completions",
                    json={
                        "model": "m",
                        "messages": [{"role": "user", "content": prompt}],
                        "stream": bool(number % 2),
                    },
                    headers={"authorization": "Bearer sk-1"},
                )
                assert reply.status_code == 200, reply.text
                assert digest(prompt) == "".join(texts(reply)), prompt
                outcomes.append(reply.headers["cache-status"])
        return outcomes

    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        return [one for outcomes in pool.map(client, range(CLIENTS)) for one in outcomes]


def texts(reply: httpx2.Response) -> Iterator[str]:
    if "event-stream" not in reply.headers["content-type"]:
        yield reply.json()["choices"][0]["message"]["content"]
        return
    *events, last = reply.text.split("\n\n")[:-1]
    assert last == "data: [DONE]"
    for event in events:
        (choice,) = json.loads(event.removeprefix("data: "))["choices"]
        yield choice["delta"].get("content", "")


def test_two_workers_ask_each_question_once(tmp_path, provider):
    config = configured(tmp_path, provider.address, CHECK)
    with gateway(config, "--workers", "2") as running:
        outcomes = ask_all(running.address)
    assert prompts(provider) == PROMPTS
    assert outcomes.count("askonce; fwd=miss") == len(PROMPTS)


@pytest.fixture(params=["redis", "postgres"])
def shared(request) -> Iterator[str]:
    """Give the URL of a store that two machines could share."""
    with contextlib.ExitStack() as stack:
        options = "&".join(f"{name}={value}" for name, value in PATIENT.items())
        if request.param == "redis":
            yield f"{stack.enter_context(redis('redis8')).url()}?{options}"
        else:
            yield stack.enter_context(postgres(binaries()["18"])).url(**PATIENT)


def test_two_gateways_on_one_store_ask_each_question_once(tmp_path, provider, shared):
    config = configured(tmp_path, provider.address, CHECK, store=shared)
    with gateway(config) as one, gateway(config) as other:
        outcomes = ask_all(one.address, other.address)
        assert prompts(provider) == PROMPTS
        assert outcomes.count("askonce; fwd=miss") == len(PROMPTS)
        # And each of them knows what was asked through the other.
        again = ask_all(other.address, one.address)
    assert set(again) == {"askonce; hit"}
    assert prompts(provider) == PROMPTS
