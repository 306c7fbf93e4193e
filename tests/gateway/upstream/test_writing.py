"""What goes out: only what no server can take for something else."""

import h11
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from askonce.gateway.writing import written
from tests.gateway.upstream.scripted import Streamed

HOST = (b"host", b"up.test")


def request(method="POST", *fields, content=b"", path="/v1/chat"):
    stream = httpx2.ByteStream(content) if isinstance(content, bytes) else content
    url = f"http://up.test{path}"
    return httpx2.Request(method, url, headers=[HOST, *fields], stream=stream)


async def pieces_of(*pieces):
    for piece in pieces:
        yield piece


async def sent(asked):
    head, body = written(asked)
    return head + (body if isinstance(body, bytes) else b"".join([piece async for piece in body]))


def length(number):
    return b"content-length", b"%d" % number


CHUNKED = (b"Transfer-Encoding", b"chunked")


async def test_what_goes_out():
    asked = request("POST", length(4), (b"X-Thing", b"a\tb \xff"), content=b"body", path="/a?b=c")
    assert await sent(asked) == (
        b"POST /a?b=c HTTP/1.1\r\nhost: up.test\r\ncontent-length: 4\r\nX-Thing: a\tb \xff\r\n\r\nbody"
    )
    assert await sent(request("GET")) == b"GET /v1/chat HTTP/1.1\r\nhost: up.test\r\n\r\n"
    asked = request("POST", CHUNKED, content=Streamed(pieces_of(b"bo", b"", b"d" * 17)))
    assert (await sent(asked)).partition(b"\r\n\r\n")[2] == (
        b"2\r\nbo\r\n11\r\n" + b"d" * 17 + b"\r\n0\r\n\r\n"
    )
    asked = request("POST", CHUNKED, content=b"body")
    assert (await sent(asked)).partition(b"\r\n\r\n")[2] == b"4\r\nbody\r\n0\r\n\r\n"
    asked = request("POST", length(4), content=Streamed(pieces_of(b"bo", b"dy")))
    assert (await sent(asked)).endswith(b"\r\n\r\nbody")


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("GET / HTTP/1.1\r\nX:", []),
        ("GET /", []),
        ("", []),
        ("G\u00c9T", []),
        ("GET\0", []),
        *(
            ("GET", [field])
            for field in (
                (b"X", b"a\r\nY: b"), (b"X", b"a\nb"), (b"X", b"a\rb"), (b"X", b"a\0b"),
                (b"X", b"a\x7fb"), (b"X\r\nY", b"b"), (b"X Y", b"b"), (b"X:", b"b"), (b"", b"b"),
                (b"X ", b"b"), (b"X: ", b"b"), (b"X: b", b""), (b"X\xff", b"b"), (b"X", b"b\r\n\r\nGET / HTTP/1.1"),
                (b"Content-Length", b"4"), (b"Content-Length", b"-0"), (b"Content-Length", b"0x0"),
                (b"Content-Length", b"0, 0"), (b"Content-Length", b""), (b"Content-Length", b"+0"),
                (b"Content-Length", b"9" * 30), (b"Transfer-Encoding", b"gzip, chunked"),
                (b"Transfer-Encoding", b"identity"), (b"Transfer-Encoding", b"chunked, chunked"),
                (b"Transfer-Encoding", b""), (b"Transfer-Encoding", b"\x0bchunked"),
            )
        ),
        ("GET", [(b"host", b"other.test")]),
        ("POST", [length(0), length(0)]),
        ("POST", [length(0), (b"Content-length", b"4")]),
        ("POST", [length(0), CHUNKED]),
        ("POST", [CHUNKED, (b"transfer-encoding", b"chunked")]),
    ],
)  # fmt: skip
def test_a_head_that_could_be_taken_for_something_else_is_refused(method, fields):
    asked = request("GET", *fields)
    asked.method = method
    with pytest.raises(httpx2.LocalProtocolError):
        written(asked)


@pytest.mark.parametrize("fields", [[], [length(0)], [length(3)], [length(5)]])
async def test_a_body_of_another_length_is_refused(fields):
    with pytest.raises(httpx2.LocalProtocolError):
        await sent(request("POST", *fields, content=b"body"))
    body = Streamed(pieces_of(b"bo", b"dy"))
    with pytest.raises(httpx2.LocalProtocolError):
        await sent(request("POST", *fields, content=body))
    assert body.is_closed


async def test_nothing_beyond_the_length_is_given():
    head, body = written(request("POST", length(3), content=Streamed(pieces_of(b"bo", b"dy"))))
    given = b""
    with pytest.raises(httpx2.LocalProtocolError):
        async for piece in body:
            given += piece
    assert given == b"bo"


TEXT = st.binary(max_size=12) | st.sampled_from([b"chunked", b"4", b"0", b"a b", b"\tx", b"x\r\ny: z"])
NAME = st.binary(max_size=6) | st.sampled_from(
    [b"host", b"content-length", b"transfer-encoding", b"Transfer-Encoding", b"x", b"X-Thing"]
)


@given(
    st.sampled_from(["GET", "POST", "put", "G T", "G\r\nT"]),
    st.lists(st.tuples(NAME, TEXT), max_size=4),
    st.sampled_from([b"", b"body"]),
)
async def test_what_is_not_refused_is_one_request_to_a_strict_server(method, fields, content):
    asked = request("GET", *fields, content=content)
    asked.method = method
    try:
        raw = await sent(asked)
    except httpx2.LocalProtocolError:
        return
    parser = h11.Connection(h11.SERVER)
    parser.receive_data(raw)
    head = parser.next_event()
    assert isinstance(head, h11.Request)
    told = [(name.lower(), value.strip(b" \t")) for name, value in fields]
    assert list(head.headers)[1:] == told
    body = b""
    while isinstance(event := parser.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage) and body == content
    assert not parser.trailing_data[0]
