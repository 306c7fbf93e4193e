"""What goes on to the provider, and what ends here."""

import json

import pytest

from tests.gateway.hostile.sending import CHAT, content, post
from tests.gateway.raw import talk


def test_headers_between_neighbours_end_here(running, provider):
    named = b"Connection: close, x-secret, X-Other , te"
    more = (
        *(named, b"X-Secret: 1", b"x-other: 2", b"X-Stays: 3", b"TE: trailers", b"Keep-Alive: 5"),
        *(b"Proxy-Authorization: Basic eA==", b"Proxy-Connection: keep-alive", b"Trailer: x"),
        *(b"Upgrade: h2c", b"Askonce-TTL: 60", b"Expect: nothing"),
    )
    for path in (CHAT, "/v1/files"):
        with talk(running.address, post(content("neighbours"), *more, path=path)) as opened:
            found = opened.answer()
        assert found is not None and found.status == 200, found
        assert found.headers["connection"] == "close"
        heard = {name.lower(): value for name, value in provider.asked[-1].headers}
        assert heard["x-stays"] == "3" and heard["authorization"] == "Bearer sk"
        gone = {"x-secret", "x-other", "te", "keep-alive", "proxy-authorization", "proxy-connection"}
        gone |= {"trailer", "upgrade", "askonce-ttl", "expect", "connection"}
        assert not gone & heard.keys()
        # No name twice.
        assert len(heard) == len(provider.asked[-1].headers)


def test_an_upgrade_is_passed_over_and_the_connection_goes_on(running):
    """Java's client asks for HTTP/2 with its first request, whatever that is."""
    upgrade = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAM")
    body = content("with an upgrade")
    for cut in (len(body), 10, 0):
        raw = post(body, *upgrade)
        with talk(running.address, raw[: len(raw) - cut]) as opened:
            opened.pause()
            if cut:
                opened.say(raw[-cut:])
            found = opened.answer()
            assert found is not None and b"answer to with an upgrade" in found.body
            opened.say(post(content("next")))
            found = opened.answer()
            assert found is not None and b"answer to next" in found.body


@pytest.mark.parametrize("path", ["/v1/realtime", CHAT, "/healthz"])
def test_websockets_are_refused_clearly(running, provider, path):
    since = provider.count
    lines = [
        f"GET {path}?model=m HTTP/1.1", "Host: x", "Connection: Upgrade", "Upgrade: websocket",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13", "", "",
    ]
    with talk(running.address, "\r\n".join(lines).encode()) as opened:
        found = opened.answer()
        assert found is not None and found.status == 400
        assert b"websockets" in found.body
        assert not opened.more()
    assert provider.count == since


@pytest.mark.parametrize("path", [CHAT, "/v1/files"])
def test_who_expects_a_word_before_sending_gets_it(running, path):
    body = content("expected")
    raw = post(body, b"Expect: 100-continue", path=path)
    with talk(running.address, raw[: -len(body)]) as opened:
        first = opened.answer()
        assert first is not None and first.status == 100
        opened.say(body)
        found = opened.answer()
        assert found is not None and found.status == 200


@pytest.mark.parametrize("keeps", [False, True])
def test_http_1_0(running, keeps):
    raw = post(content("old"), *([b"Connection: keep-alive"] if keeps else []))
    with talk(running.address, raw.replace(b"HTTP/1.1", b"HTTP/1.0", 1)) as opened:
        found = opened.answer()
        assert found is not None and b"answer to old" in found.body
        assert not opened.more()


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "DELETE", "PUT", "PATCH", "GET"])
@pytest.mark.parametrize("path", ["/v1/files", CHAT])
def test_other_methods_pass(running, provider, method, path):
    since = provider.count
    raw = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    with talk(running.address, raw) as opened:
        if method == "HEAD":
            while b"\r\n\r\n" not in opened.heard:
                opened.more()
            assert opened.heard.startswith(b"HTTP/1.1 200 ")
            assert opened.heard.endswith(b"\r\n\r\n")
        else:
            found = opened.answer()
            assert found is not None and json.loads(found.body)["method"] == method
        opened.heard = b""
        opened.say(post(content("after it")))
        found = opened.answer()
        assert found is not None and b"answer to after it" in found.body
    assert [asked.method for asked in provider.asked[since : since + 1]] == [method]


def test_trace_goes_nowhere(running, provider):
    since = provider.count
    with talk(running.address, b"TRACE /v1/models HTTP/1.1\r\nHost: x\r\n\r\n") as opened:
        found = opened.answer()
    assert found is not None and found.status == 405
    assert provider.count == since


def test_own_paths_take_no_other_methods(running, provider):
    since = provider.count
    for path in ("/healthz", "/readyz", "/metrics"):
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
            raw = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode()
            with talk(running.address, raw) as opened:
                found = opened.answer()
            assert found is not None and found.status == 404
    assert provider.count == since
