"""Where a request ends: what a body holds is no request."""


import pytest

from tests.gateway.hostile.sending import SMUGGLED, content, post, smuggled
from tests.gateway.raw import talk

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
            opened.pause()
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
