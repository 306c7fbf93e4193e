"""What is made of the bytes of a response, in whatever pieces they come."""

import h11
import httpx2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from askonce.gateway.reading import Reading

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
FOUR = OK + b"Content-Length: 4\r\n\r\nbody"
MOST = 1 << 18


def fed(*pieces, is_head=False, ended=False, error=None):
    reading = Reading(is_head=is_head)
    for piece in filter(None, pieces):
        reading.feed(piece)
    if ended:
        reading.end(error)
    return reading


def seen(reading):
    """Give all that a reading tells."""
    return (
        reading.status, reading.headers, reading.take(), reading.has_head, reading.is_whole,
        reading.may_stay, type(reading.error),
    )  # fmt: skip


WHOLE = [
    (FOUR, 200, b"body"),
    (b"HTTP/1.1 200\r\nContent-Length: 4\r\n\r\nbody", 200, b"body"),
    (OK + b"content-length: 4 \r\nX-Empty:\r\nX:  y\t\r\n\r\nbody", 200, b"body"),
    (CHUNKED + b"2\r\nbo\r\n2;a=b\r\ndy\r\n0\r\n\r\n", 200, b"body"),
    (CHUNKED + b"4\r\nbody\r\n0\r\nX-Trailer: 1\r\nX-Empty:\r\n\r\n", 200, b"body"),
    (OK + b"Transfer-Encoding: Chunked \r\n\r\n0\r\n\r\n", 200, b""),
    (b"HTTP/1.1 100 Go on\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + FOUR, 200, b"body"),
    (b"HTTP/1.1 204 None\r\n\r\n", 204, b""),
    (b"HTTP/1.1 304 Same\r\nContent-Length: 4\r\nETag: x\r\n\r\n", 304, b""),
    (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\nbody", 200, b"body"),
    (OK + b"Upgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 4\r\n\r\nbody", 200, b"body"),
]
LAST = [
    (b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nbody", 200, b"body"),
    (OK + b"Connection: close\r\nContent-Length: 4\r\n\r\nbody", 200, b"body"),
    (OK + b"Connection: keep-alive, close\r\nContent-Length: 4\r\n\r\nbody", 200, b"body"),
    (OK + b"Connection: close\r\nContent-Length: 4\r\n\r\nbody and more", 200, b"body"),
    (CHUNKED + b"4\r\nbody\r\n0\r\nConnection: close\r\n\r\n", 200, b"body"),
    (OK + b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n0\r\n\r\n", 200, b"bo"),
    (OK + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n2\r\nbo\r\n0\r\n\r\n", 200, b"bo"),
    (CHUNKED + b"0\r\nContent-Length: 4\r\n\r\nbody", 200, b""),
    (FOUR + FOUR, 200, b"body"),
    (FOUR + b"H", 200, b"body"),
    (FOUR + b"\0", 200, b"body"),
    (b"HTTP/1.1 204 None\r\nContent-Length: 4\r\n\r\nbody", 204, b""),
    (b"HTTP/1.1 304 Same\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 304, b""),
]
REFUSED = [
    b"garbage",
    b" HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 99 OK\r\n\r\n",
    b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n" + FOUR,
    b"HTTP/1.1 2000 OK\r\n\r\n",
    b"HTTP/3.0 200 OK\r\n\r\n",
    b"HTTP/1.1 101 Switching\r\n\r\n" + FOUR,
    b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n" + FOUR,
    OK + b"Content-Length: 4\r\nContent-Length: 4\r\n\r\nbody",
    OK + b"Content-Length: 4\r\nContent-Length: 3\r\n\r\nbody",
    OK + b"Content-Length: 4, 4\r\n\r\nbody",
    OK + b"Content-Length: +4\r\n\r\nbody",
    OK + b"Content-Length: -4\r\n\r\nbody",
    OK + b"Content-Length: 0x4\r\n\r\nbody",
    OK + b"Content-Length:\r\n\r\nbody",
    OK + b"Content-Length: 18446744073709551620\r\n\r\nbody",
    OK + b"Content-Length : 4\r\n\r\nbody",
    *(
        OK + b"Transfer-Encoding: " + codings + b"\r\n\r\n4\r\nbody\r\n0\r\n\r\n"
        for codings in (
            b"gzip, chunked", b"chunked, identity", b"identity", b"xchunked", b"chunked;q=1",
            b"chunked,", b'"chunked"', b"", b"\x0bchunked", b"chunked, chunked",
            b"chunked\r\nTransfer-Encoding: identity", b"identity\r\nTransfer-Encoding: chunked",
            b"chunked\r\nTransfer-Encoding: chunked", b"\r\n chunked",
        )
    ),
    OK + b"X: a\r\n b\r\n\r\n",
    OK + b"X: a\0b\r\n\r\n",
    OK + b"X: a\rb\r\n\r\n",
    OK + b"X: a\nb\r\n\r\n",
    OK + b"X y: 1\r\n\r\n",
    OK + b": 1\r\n\r\n",
    OK + b"nothing\r\n\r\n",
]  # fmt: skip
CUT = [
    CHUNKED + b"4 \r\nbody\r\n0\r\n\r\n",
    CHUNKED + b"4\nbody\n0\n\n",
    CHUNKED + b"5\r\nbody\r\n0\r\n\r\n",
    CHUNKED + b"3\r\nbody\r\n0\r\n\r\n",
    CHUNKED + b"-1\r\nbody\r\n0\r\n\r\n",
    CHUNKED + b"\r\nbody\r\n0\r\n\r\n",
    CHUNKED + b"10000000000000004\r\nbody\r\n0\r\n\r\n",
]


@pytest.mark.parametrize(("raw", "status", "body"), WHOLE)
def test_a_whole_response_after_which_another_may_come(raw, status, body):
    reading = fed(raw)
    assert (reading.status, reading.take(), reading.error) == (status, body, None)
    assert reading.has_head and reading.is_whole and reading.may_stay
    assert not any(b"trailer" in name.lower() for name, _ in reading.headers)


@pytest.mark.parametrize(("raw", "status", "body"), LAST)
def test_a_whole_response_after_which_no_other_may_come(raw, status, body):
    reading = fed(raw)
    assert (reading.status, reading.take(), reading.error) == (status, body, None)
    assert reading.is_whole and not reading.may_stay


@pytest.mark.parametrize("is_head", [False, True])
@pytest.mark.parametrize("raw", REFUSED)
def test_a_head_that_is_refused(raw, is_head):
    reading = fed(raw, is_head=is_head, ended=True)
    assert isinstance(reading.error, httpx2.RemoteProtocolError)
    assert not (reading.has_head or reading.is_whole or reading.may_stay or reading.chunks)


@pytest.mark.parametrize("raw", CUT)
def test_a_body_that_is_refused(raw):
    reading = fed(raw)
    reading.end(None)
    assert isinstance(reading.error, httpx2.RemoteProtocolError)
    assert reading.has_head and not reading.is_whole and not reading.may_stay


@pytest.mark.parametrize(("raw", "status", "body"), WHOLE + LAST)
def test_each_byte_may_be_the_last(raw, status, body):
    """Only what is whole is told to be whole, and what has come is not changed by an end."""
    for length in range(len(raw)):
        before = fed(raw[:length])
        after = fed(raw[:length], ended=True)
        assert before.is_whole == after.is_whole
        assert after.is_whole or isinstance(after.error, httpx2.RemoteProtocolError)
        assert body.startswith(after.take()) or after.status != status
        assert not after.may_stay
        lost = fed(raw[:length], ended=True, error=ConnectionResetError("reset"))
        assert lost.is_whole or isinstance(lost.error, httpx2.ReadError)
        assert before.has_begun == bool(length)


def test_headers_are_given_as_they_come():
    reading = fed(OK + b"Set-Cookie: a\r\nX-Empty:\r\nset-cookie: \xffb\r\n\r\n")
    assert reading.headers == [(b"Set-Cookie", b"a"), (b"X-Empty", b""), (b"set-cookie", b"\xffb")]


@pytest.mark.parametrize("framing", [b"Content-Length: 400\r\n", b"Transfer-Encoding: chunked\r\n", b""])
def test_nothing_comes_after_the_head_that_was_asked_for(framing):
    reading = fed(OK + framing + b"\r\n", is_head=True)
    assert reading.is_whole and not reading.may_stay
    reading.feed(b"4\r\nbody")
    reading.end(None)
    assert reading.is_whole and not reading.chunks and reading.error is None


def test_a_body_that_ends_with_the_connection():
    head = OK + b"Content-Type: text/plain\r\n\r\n"
    reading = fed(head + b"bo", b"dy")
    assert reading.has_head and not reading.is_whole
    reading.end(None)
    assert reading.is_whole and not reading.may_stay and reading.take() == b"body"
    assert isinstance(fed(head, ended=True, error=OSError("lost")).error, httpx2.ReadError)


def test_what_failed_is_not_whole_when_its_connection_ends():
    reading = fed(OK + b"\r\nbo")
    reading.fail(httpx2.ReadTimeout("too late"))
    reading.end(None)
    assert not reading.is_whole and isinstance(reading.error, httpx2.ReadTimeout)
    reading.feed(b"dy")
    assert reading.take() == b"bo"


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (b"HTTP/1.1 200 ", b"O" * 1000),
        (OK, b"X: " + b"y" * 997 + b"\r\n"),
        (OK + b"X: ", b"y" * 1000),
        (OK, b"Y" * 1000),
        (b"", b"HTTP/1.1 100 Go on\r\n\r\n" * 50),
        (b"", b"\r\n" * 500),
        (CHUNKED + b"4;", b"y" * 1000),
        (CHUNKED + b"4\r\nbody\r\n0\r\n", b"X: " + b"y" * 997 + b"\r\n"),
        (CHUNKED + b"4\r\nbody\r\n0\r\nX: ", b"y" * 1000),
    ],
)
def test_what_is_not_body_has_an_end(start, more):
    reading = fed(start)
    taken = 0
    while reading.error is None and taken <= 2 * MOST:
        reading.feed(more)
        taken += len(more)
    assert isinstance(reading.error, httpx2.RemoteProtocolError)
    assert taken <= MOST + 2 * len(more)
    assert not reading.is_whole


def test_a_body_may_be_as_long_as_it_likes():
    piece = b"400\r\n" + b"y" * 1024 + b"\r\n"
    reading = fed(CHUNKED, *[piece] * 1000)
    assert reading.error is None and reading.length == 1024 * 1000
    assert reading.take() == b"y" * 1024 * 1000 and reading.length == 0


RESPONSES = st.sampled_from(
    [raw for raw, *_ in WHOLE + LAST] + REFUSED + CUT + [OK + b"\r\nuntil the end"]
)


@given(st.data(), RESPONSES, RESPONSES | st.binary(max_size=40) | st.just(b""), st.booleans())
def test_pieces_make_no_difference(data, raw, more, is_head):
    raw += more
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=12)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert seen(fed(*pieces, is_head=is_head)) == seen(fed(raw, is_head=is_head))
    ended = seen(fed(*pieces, is_head=is_head, ended=True))
    assert ended == seen(fed(raw, is_head=is_head, ended=True))


@given(st.binary(max_size=200))
@example(b"HTTP/1.1 200 OK\r\nUpgrade")
def test_whatever_comes_is_read_or_refused(raw):
    for start in (b"", OK, CHUNKED, FOUR):
        reading = fed(start, raw, ended=True)
        assert reading.is_whole == (reading.error is None)


def by_h11(raw):
    """Read a response as a strict parser does: its status, body and whether that is all."""
    parser = h11.Connection(h11.CLIENT)
    parser.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    parser.send(h11.EndOfMessage())
    parser.receive_data(raw)
    parser.receive_data(b"")
    status, body = 0, b""
    try:
        while True:
            match parser.next_event():
                case h11.Response() as head:
                    status = head.status_code
                case h11.Data() as data:
                    body += data.data
                case h11.EndOfMessage():
                    return status, body, True
                case h11.InformationalResponse(status_code=code) if code != 101:
                    continue
                case h11.InformationalResponse():
                    return status, body, False
                case _:
                    return status, body, False
    except h11.RemoteProtocolError:
        return status, body, False


@given(
    st.sampled_from([b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK", b"HTTP/1.1 204 No", b"HTTP/1.1 404 N"]),
    st.lists(
        st.sampled_from(
            [
                b"Content-Length: 4", b"Content-Length: 5", b"Content-Length: 4, 4", b"X: y",
                b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", b"Connection: close",
                b"transfer-encoding: gzip, chunked", b"Content-Length : 4", b"X\0: y", b"",
            ]
        ),
        max_size=4,
    ),
    st.sampled_from([b"body", b"4\r\nbody\r\n0\r\n\r\n", b"4\r\nbody\r\n", b"", b"body" + FOUR]),
)  # fmt: skip
def test_what_is_taken_for_whole_is_so_for_h11(line, fields, body):
    raw = b"\r\n".join([line, *fields, b"", body])
    reading = fed(raw, ended=True)
    if reading.is_whole:
        assert (reading.status, reading.take(), True) == by_h11(raw)
