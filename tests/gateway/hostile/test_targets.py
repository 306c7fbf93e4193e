"""Where a request goes: only where it says, and to no host that it names."""

import pytest

from tests.gateway.hostile.sending import SMUGGLED
from tests.gateway.raw import talk

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
