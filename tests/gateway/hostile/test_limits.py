"""Too much of it: long heads, long bodies, slow and silent ones."""

import contextlib
import json
import socket
import time

import pytest

from tests.gateway.hostile.sending import CHAT, content, post
from tests.gateway.raw import drip, talk


@pytest.fixture(scope="module")
def patience():
    """Give the seconds that the gateway waits for what does not come: here it is waited for."""
    return 1


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 20_000 + b"\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 4000 + b"\r\n",
        b"GET /v1/" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/models?" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\r\n" * 20_000,
        b"GET" + b" " * 20_000,
        b"X" * 20_000,
        post(b"", b"X: " + b"y" * 20_000),
    ],
    ids=lambda raw: repr(raw[:24]),
)
@pytest.mark.parametrize("size", [1 << 20, 1000])
def test_heads_end_somewhere(running, provider, raw, size):
    since = provider.count
    with talk(running.address) as opened:
        for place in range(0, len(raw), size):
            opened.say(raw[place : place + size])
        found = opened.answer()
        assert found is None or found.status == 400, found
        assert not opened.more()
    assert provider.count == since


def test_a_head_just_short_enough_passes(running, provider):
    long = b"X: " + b"y" * 15_000
    with talk(running.address, post(content("long"), long)) as opened:
        found = opened.answer()
        assert found is not None and found.status == 200
    target = "/v1/" + "a" * 15_000
    with talk(running.address, f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode()) as opened:
        found = opened.answer()
        assert found is not None and found.status == 200
    assert provider.asked[-1].target == target


@pytest.mark.parametrize("path", [CHAT, "/v1/files"])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_bodies_end_somewhere(running, provider, path, is_chunked):
    since = provider.count
    body = b"x" * 300_000
    if is_chunked:
        pieces = [body[place : place + 1000] for place in range(0, len(body), 1000)]
        raw = b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in pieces) + b"0\r\n\r\n"
        request = post(raw, b"Transfer-Encoding: chunked", path=path, length=False)
    else:
        request = post(body, path=path)
    with talk(running.address, request) as opened:
        found = opened.answer()
    assert found is not None and found.status == 413
    assert json.loads(found.body)["error"]["code"] == "request_too_large"
    assert not [asked for asked in provider.asked[since:] if len(asked.body) >= len(body)]


@pytest.mark.parametrize("path", [CHAT, "/v1/files"])
def test_a_body_that_stops_is_cut_off(running, provider, path):
    since = provider.count
    with talk(running.address, post(b"x" * 1000, path=path)[:-500]) as opened:
        assert not opened.until_closed()
    assert provider.count == since


@pytest.mark.parametrize(
    "piece", [b"x", b"\r\n", b"GET / HTTP/1.1\r\nX: y", b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX: "]
)
def test_slow_heads_are_cut_off(running, piece):
    """A byte now and then is no progress: the whole head has its time."""
    with talk(running.address, piece) as opened:
        seconds = drip(opened, b"y" if piece != b"\r\n" else piece)
        assert seconds < 20


def test_empty_lines_between_requests_keep_no_connection(running):
    with talk(running.address, post(content("p"))) as opened:
        assert opened.answer() is not None
        assert drip(opened, b"\r\n") < 20


def test_framing_alone_is_no_progress(running):
    """Chunk extensions and trailers may be long, yet nothing of them is a body."""
    head = post(b"", b"Transfer-Encoding: chunked", length=False)
    for begin in (b"1;", b"1\r\nx\r\n0\r\nTrailer: "):
        with talk(running.address, head + begin) as opened:
            opened.connection.settimeout(30)
            for _ in range(100):
                opened.say(b"y" * 1000)
            assert drip(opened, b"y" * 1000) < 20


def test_nobody_waits_for_a_silent_connection(running):
    with talk(running.address) as silent:
        assert silent.until_closed() == b""
    with talk(running.address, post(content("p"))) as idle:
        assert idle.answer() is not None
        assert idle.until_closed() == b""


def test_a_client_that_never_reads_its_answer_is_left(running):
    with talk(running.address) as opened:
        opened.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        opened.say(post(content("endless", stream=True)))
        began = time.monotonic()
        # The kernel still holds what nobody reads; that it was given up on shows in the log.
        while not any('"outcome": "gone"' in line for line in running.log):
            assert time.monotonic() - began < 30
            running.get("/healthz")


def test_many_slow_ones_hold_up_nobody(running):
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(talk(running.address, b"POST /v1/files HTTP/1.1\r\nHost: x\r\nX"))
        with talk(running.address, post(content("among them"))) as opened:
            found = opened.answer()
            assert found is not None and found.status == 200
