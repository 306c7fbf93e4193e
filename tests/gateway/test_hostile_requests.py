"""Requests that no decent client sends: nothing crosses, nothing hangs, and it goes on serving."""

import contextlib
import json
import socket
import time

import pytest

from tests.gateway.raw import drip, talk
from tests.gateway.running import configured, gateway
from tests.http import server as servers

CHAT = "/v1/chat/completions"
LIMITS = """
[server]
header_timeout = 1
body_timeout = 1
write_timeout = 1
idle_timeout = 2
max_header_bytes = 16384
max_body_bytes = 200000
[access]
verify_for = 1000
"""
BIG = b"x" * 64 * 1024


def content(prompt="hi", **more):
    body = {"model": "m", "messages": [{"role": "user", "content": prompt}], **more}
    return json.dumps(body).encode()


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
def running(tmp_path_factory, provider):
    config = configured(tmp_path_factory.mktemp("hostile"), provider.address, LIMITS)
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


def post(body, *headers, path=CHAT, length=True):
    lines = [f"POST {path} HTTP/1.1".encode(), b"Host: x", b"Authorization: Bearer sk", *headers]
    if length:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"", body])


SMUGGLED = b"GET /v1/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


def smuggled(provider, since):
    return [asked for asked in provider.asked[since:] if "smuggled" in asked.target]


# Where a request ends

ENDS = {
    "CL.TE": post(b"0\r\n\r\n" + SMUGGLED, b"Transfer-Encoding: chunked"),
    "TE.CL": post(
        b"%x\r\n%s\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED),
        b"Transfer-Encoding: chunked",
        b"Content-Length: 4",
        length=False,
    ),
    "TE.TE": post(
        b"0\r\n\r\n" + SMUGGLED, b"Transfer-Encoding: chunked", b"Transfer-Encoding: cow"
    ),
    "TE unknown": post(b"0\r\n\r\n" + SMUGGLED, b"Transfer-Encoding: xchunked"),
    "TE list": post(b"0\r\n\r\n" + SMUGGLED, b"Transfer-Encoding: chunked, identity"),
    "TE with a tab": post(b"0\r\n\r\n" + SMUGGLED, b"Transfer-Encoding:\tchunked"),
    "TE with a letter": post(b"0\r\n\r\n" + SMUGGLED, b"Transfer-Encoding: \x0bchunked"),
    "TE folded": post(b"0\r\n\r\n" + SMUGGLED, b"Transfer-Encoding:\r\n chunked"),
    "TE before a space": post(b"0\r\n\r\n" + SMUGGLED, b"Transfer-Encoding : chunked"),
    "TE behind a line feed": post(b"0\r\n\r\n" + SMUGGLED, b"X: y\nTransfer-Encoding: chunked"),
    "TE behind a return": post(b"0\r\n\r\n" + SMUGGLED, b"X: y\rTransfer-Encoding: chunked"),
    "two lengths": post(b"" + SMUGGLED, b"Content-Length: 0"),
    "two lengths in one": post(SMUGGLED, b"Content-Length: 0, %d" % len(SMUGGLED), length=False),
    "length with a sign": post(SMUGGLED, b"Content-Length: +0", length=False),
    "length with an x": post(SMUGGLED, b"Content-Length: 0x0", length=False),
    "length below zero": post(SMUGGLED, b"Content-Length: -1", length=False),
    "length too large": post(SMUGGLED, b"Content-Length: 18446744073709551616", length=False),
    "length before a space": post(SMUGGLED, b"Content-Length : 0"),
    "no name": post(SMUGGLED, b": x"),
    "a name with a space": post(SMUGGLED, b"Content Length: 0"),
    "bare line feeds": post(SMUGGLED).replace(b"\r\n", b"\n", 3),
    "chunk of no size": post(b"\r\n\r\n" + SMUGGLED, b"Transfer-Encoding: chunked", length=False),
    "chunk with a sign": post(
        b"-1\r\n\r\n" + SMUGGLED, b"Transfer-Encoding: chunked", length=False
    ),
    "chunk too large": post(
        b"fffffffffffffffff\r\n" + SMUGGLED, b"Transfer-Encoding: chunked", length=False
    ),
    "chunk too short": post(
        b"1\r\nabc\r\n0\r\n\r\n" + SMUGGLED, b"Transfer-Encoding: chunked", length=False
    ),
    "chunk behind a line feed": post(
        b"0\n\n" + SMUGGLED, b"Transfer-Encoding: chunked", length=False
    ),
    "chunk extension with a line feed": post(
        b"1;a\nb\r\nX\r\n0\r\n\r\n" + SMUGGLED, b"Transfer-Encoding: chunked", length=False
    ),
    "an upgrade": post(SMUGGLED, b"Connection: upgrade", b"Upgrade: h2c"),
}


@pytest.mark.parametrize("name", ENDS)
@pytest.mark.parametrize("is_cut", [False, True])
def test_what_a_body_holds_is_no_request(running, provider, name, is_cut):
    since = provider.count
    raw = ENDS[name]
    with talk(running.address) as opened:
        if is_cut:
            place = raw.index(SMUGGLED)
            opened.say(raw[:place])
            # The parser has seen the first part by itself.
            opened.connection.settimeout(0.05)
            with contextlib.suppress(TimeoutError):
                opened.more()
            opened.connection.settimeout(30)
            opened.say(raw[place:])
        else:
            opened.say(raw)
        opened.finish()
        heard = opened.until_closed()
    statuses = [int(part[:3]) for part in heard.split(b"HTTP/1.1 ")[1:]]
    assert all(status in (200, 400, 413) for status in statuses), heard
    assert not smuggled(provider, since), heard
    assert len(statuses) <= 1, heard


@pytest.mark.parametrize("chunks", [b"5;ext=1;b=\"c\"\r\n%s\r\n", b"%x \r\n%s\r\n", b"00000005\r\n%s\r\n"])
def test_chunks_as_they_may_be(running, chunks):
    body = content("chunked")
    pieces = [body[place : place + 5] for place in range(0, len(body), 5)]
    raw = b""
    for piece in pieces:
        head = b"%x" % len(piece)
        raw += head + (b";ext=1" if b"ext" in chunks else b"") + b"\r\n" + piece + b"\r\n"
    with talk(running.address, post(raw + b"0\r\n\r\n", b"Transfer-Encoding: chunked", length=False)) as opened:
        found = opened.answer()
    assert found is not None and found.status == 200
    assert b"answer to chunked" in found.body


def test_requests_behind_one_another_are_answered_in_their_order(running):
    asked = b"".join(post(content(f"p{number}")) for number in range(20))
    with talk(running.address, asked) as opened:
        for number in range(20):
            found = opened.answer()
            assert found is not None
            assert f"answer to p{number}".encode() in found.body


def test_behind_one_that_is_bad_nothing_is_answered(running, provider):
    since = provider.count
    with talk(running.address, post(content("p")) + b"BAD\r\n\r\n" + SMUGGLED) as opened:
        heard = opened.until_closed()
    assert heard.count(b"HTTP/1.1 ") <= 2
    assert not smuggled(provider, since)


def test_behind_one_that_closes_nothing_is_answered(running, provider):
    since = provider.count
    with talk(running.address, post(content("p"), b"Connection: close") + SMUGGLED) as opened:
        heard = opened.until_closed()
    assert heard.count(b"HTTP/1.1 ") == 1
    assert not smuggled(provider, since)


# Where a request goes

TRICKS = [
    "//evil.example/v1/models",
    "/v1//models",
    "/v1/./models",
    "/v1/../secret",
    "/v1/..",
    "/v1/%2e%2e/secret",
    "/v1/%2E%2e/secret",
    "/v1/.%2e/secret",
    "/v1/%252e%252e/secret",
    "/v1/..%2fsecret",
    "/v1/..%5csecret",
    "/v1/%5c..%5csecret",
    "/v1/..;/secret",
    "/v1/.;x=1/secret",
    "/v1/..;x=1/secret",
    "/v1/a%2fb",
    "/v1/a%00b",
    "/v1/a%0d%0aX-Injected:%201",
    "/v1/a%",
    "/v1/a%g0",
    "/v1/a%7",
    "/v1/\\..\\secret",
    "/v1/{a}",
    "/v1/a|b",
    "/fake/../v1/models",
    "/fake//v1/models",
    "/fake/http://evil.example/",
    "/v1/http://evil.example/",
    "/v1/@evil.example/",
    "/v1/:80@evil.example/",
]
NOWHERE = ["/", "/v1", "/fake", "/secret", "/V1/models", "/healthz/", "/metrics/x", "/fak/v1/models", "*"]


@pytest.mark.parametrize("target", TRICKS + NOWHERE)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_paths_lead_only_where_they_say(running, provider, target, method):
    since = provider.count
    raw = f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode("latin-1")
    with talk(running.address, raw) as opened:
        found = opened.answer()
    assert found is not None
    heard = provider.asked[since:]
    if heard:
        # It went on, plain as it was, below the base of its upstream.
        assert [asked.target for asked in heard] == [target]
        assert target.startswith("/v1/") and ".." not in target and "%" not in target
        assert heard[0].header("host") == provider.host
    else:
        assert found.status in (400, 404), found


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /v1/mod\xc3\xa9ls HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/a\x00b HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/a\x7fb HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/a b HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/models?a\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET v1/models HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/models HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET /v1/models FTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"BREW /v1/models HTTP/1.1\r\nHost: x\r\n\r\n",
        b"get /v1/models HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n",
        b"CONNECT /v1/models HTTP/1.1\r\nHost: x\r\n\r\n" + SMUGGLED,
        b"GET http:// HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX\x00: b\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200,
        b"\r\n\r\n\x00",
    ],
    ids=lambda raw: repr(raw[:30]),
)
def test_what_is_no_request_goes_nowhere(running, provider, raw):
    since = provider.count
    with talk(running.address, raw) as opened:
        found = opened.answer()
        assert found is None or found.status in (400, 404, 405), found
        opened.finish()
        opened.until_closed()
    assert provider.count == since


@pytest.mark.parametrize(
    "target",
    [
        "http://evil.example/v1/models",
        "https://evil.example:444/v1/models",
        "http://user:secret@evil.example/v1/models",
        "http://127.0.0.1:1/v1/models",
        "http://169.254.169.254/v1/models",
        "ftp://evil.example/v1/models",
    ],
)
@pytest.mark.parametrize(
    "headers",
    [
        (),
        ("X-Forwarded-Host: evil.example",),
        ("X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: https", "X-Real-IP: 127.0.0.1"),
        ("Forwarded: for=127.0.0.1;host=evil.example;proto=https",),
        ("X-Original-URL: http://evil.example/", "X-Rewrite-URL: /secret"),
        ("X-Host: evil.example", "X-HTTP-Host-Override: evil.example"),
        ("Host: evil.example", "Host: 169.254.169.254"),
    ],
    ids=lambda headers: headers[0][:12] if headers else "none",
)
def test_no_host_that_a_request_names_is_asked(running, provider, target, headers):
    since = provider.count
    lines = [f"GET {target} HTTP/1.1", "Host: evil.example", *headers, "", ""]
    with talk(running.address, "\r\n".join(lines).encode()) as opened:
        found = opened.answer()
    assert found is not None and found.status in (200, 400)
    for asked in provider.asked[since:]:
        assert asked.target == "/v1/models"
        assert [value for name, value in asked.headers if name.lower() == "host"] == [provider.host]
    assert provider.count == since + (found.status == 200)


# What goes on


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
            opened.connection.settimeout(0.05)
            with contextlib.suppress(TimeoutError):
                opened.more()
            opened.connection.settimeout(30)
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


# Too much of it


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
