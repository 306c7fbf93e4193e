"""What is asked anew in the background: who pays for it."""

import re
import time

import httpx2
import pytest

from askonce.gateway.api_keys import KeyRing
from askonce.stores import open_store
from tests.gateway.running import configured, gateway
from tests.http import server as servers

MORE = """
credential_env = "PROVIDERS_KEY"
[access]
keys = "{keys}"
[[prices]]
model = "dear"
input = 1000000
output = 1000000
[[rules]]
models = ["dear"]
ttl = 0.001
stale_while_revalidate = 3600
"""


@pytest.fixture
def keys(tmp_path):
    return f"sqlite:///{tmp_path}/keys.db"


def make(keys, name, **limits):
    with open_store(keys) as store:
        return KeyRing(store).create(name, now=time.time(), namespace="team", **limits)[0]


def ask(address, secret, *, stream):
    messages = [{"role": "user", "content": "hi"}]
    return httpx2.post(
        f"{address}/v1/chat/completions",
        json={"model": "dear", "messages": messages, "stream": stream},
        headers={"Authorization": f"Bearer {secret}"},
        timeout=30,
        trust_env=False,
    )


@pytest.mark.parametrize("stream", [False, True])
def test_a_key_pays_for_what_is_refreshed_on_its_behalf(tmp_path, keys, stream):
    rich, poor = make(keys, "rich"), make(keys, "poor", budget_per_day=0.5)
    with servers.running(servers.chat) as provider:
        config = configured(tmp_path, provider.address, MORE.format(keys=keys))
        with gateway(config, PROVIDERS_KEY="sk-providers") as running:
            assert ask(running.address, rich, stream=stream).status_code == 200
            began = time.monotonic()
            while (reply := ask(running.address, poor, stream=stream)).status_code == 200:
                # What was asked just before may be on its way into the store still.
                assert re.match("askonce; (hit|fwd=miss; collapsed)", reply.headers["cache-status"])
                assert time.monotonic() - began < 30
            assert reply.json()["error"]["code"] == "budget_per_day"
        assert provider.count >= 2


def test_nobody_pays_for_a_refresh_that_failed(tmp_path, keys):
    rich, poor = make(keys, "rich"), make(keys, "poor", budget_per_day=0.5)
    with servers.running(servers.chat) as provider:
        config = configured(tmp_path, provider.address, MORE.format(keys=keys))
        with gateway(config, PROVIDERS_KEY="sk-providers") as running:
            assert ask(running.address, rich, stream=False).status_code == 200
            provider.answer = lambda asked: servers.plain({"error": {"message": "busy"}}, 503)
            began = time.monotonic()
            # Longer than what is spent takes to be known.
            while time.monotonic() - began < 3 or provider.count < 4:
                assert ask(running.address, poor, stream=False).status_code == 200
                assert time.monotonic() - began < 30
