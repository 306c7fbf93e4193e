"""Fixtures: a gateway that must go on, whatever it is sent."""

import contextlib

import pytest

from tests.gateway.hostile.sending import CHAT, content, post
from tests.gateway.raw import talk
from tests.gateway.running import configured, gateway
from tests.http import server as servers

LIMITS = """
[server]
header_timeout = {patience}
body_timeout = {patience}
write_timeout = {patience}
idle_timeout = {patience}
max_header_bytes = 16384
max_body_bytes = 200000
[access]
verify_for = 1000
"""
BIG = b"x" * 64 * 1024


def answer(asked):
    path = asked.target.partition("?")[0]
    if asked.method == "POST" and path == CHAT:
        with contextlib.suppress(ValueError):
            prompt = asked.json()["messages"][0]["content"]
            if prompt == "endless":
                return servers.chunked(endless())
            return servers.plain(servers.completion(f"answer to {prompt}"))
    if asked.method == "HEAD":
        return [servers.head(200, ("Content-Type", "text/plain"), ("Content-Length", "5"))]
    return servers.plain({"method": asked.method, "target": asked.target})


def endless():
    yield from servers.events("begin")[:-2]
    for _ in range(2000):
        yield b": " + BIG + b"\n\n"


@pytest.fixture(scope="module")
def provider():
    with servers.running(answer) as server:
        yield server


@pytest.fixture(scope="module")
def patience():
    """Give the seconds that the gateway waits for what does not come; a test may be slow itself."""
    return 30


@pytest.fixture(scope="module")
def running(tmp_path_factory, provider, patience):
    limits = LIMITS.format(patience=patience)
    config = configured(tmp_path_factory.mktemp("hostile"), provider.address, limits)
    with gateway(config) as running:
        yield running
        assert running.process.poll() is None
        assert running.stop() in (0, -15)


@pytest.fixture(autouse=True)
def goes_on(running, provider):
    """Whatever came, the next one is served, and by the same process."""
    pid = running.process.pid
    yield
    with talk(running.address, post(content("and then"))) as opened:
        found = opened.answer()
    assert found is not None and found.status == 200 and b"answer to and then" in found.body
    assert (running.process.pid, running.process.poll()) == (pid, None)
