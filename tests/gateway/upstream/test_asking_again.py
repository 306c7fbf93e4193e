"""A question is asked once more, or not: our connections and those of the libraries."""

import asyncio

import httpx
import httpx2
import pytest

from askonce.gateway.connection import Connection
from askonce.http.steps import Send
from askonce.http.transport_classes import asend, transports
from tests.gateway.upstream.scripted import OK, answer, ask, heard, question, until, well


def kinds(direct):
    return {"ours": direct, "library": httpx2.AsyncHTTPTransport()}


@pytest.mark.parametrize("kind", ["ours", "library"])
async def test_who_was_not_heard_asks_again(serve, kind):
    async def script(peer):
        await peer.asked()
        await peer.say(answer(b"%d" % peer.number))
        if not peer.number:
            await peer.asked()

    served, direct = await serve(script)
    transport = kinds(direct)[kind]
    for number in range(2):
        asked = question(direct, content=b"question")
        assert await heard(await asend(httpx2, transport, asked)) == b"%d" % number
    assert len(served.peers) == 2
    await transport.aclose()


BROKEN = [b"\0", b"HTTP/1.1 200 OK\r\nX y\r\n\r\n", b"HTTP/1.1 OK\r\n\r\n", OK + b"Content-Length: x\r\n\r\n"]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        *(("ours", said) for said in (*BROKEN, b"H", OK, b"HTTP/1.1 100 Go on\r\n\r\n", b"\r\n")),
        # The libraries tell nobody of a head of which only a part came.
        *(("library", said) for said in BROKEN),
        *(("library_sync", said) for said in BROKEN),
        *(("httpx", said) for said in BROKEN),
    ],
)
async def test_who_was_answered_in_part_does_not_ask_again(serve, kind, said):
    """The provider has begun to answer: it may be paid for that."""
    count = 0

    async def script(peer):
        nonlocal count
        await peer.asked()
        await peer.say(answer())
        await peer.asked()
        count += 1
        await peer.say(said)

    served, direct = await serve(script)

    def asked(library):
        return library.Request(
            "POST", f"http://127.0.0.1:{served.port}/v1/files", content=b"question"
        )

    if kind == "library_sync":
        with httpx2.HTTPTransport() as inner:
            transport = transports(httpx2)[0](None, inner)

            def twice():
                send = transport._call
                response = send(asked(httpx2), Send(b"question"))
                assert b"".join(response.stream) == b"well"
                response.close()
                with pytest.raises(httpx2.RemoteProtocolError):
                    send(asked(httpx2), Send(b"question"))

            await asyncio.to_thread(twice)
    else:
        library = httpx if kind == "httpx" else httpx2
        transport = direct if kind == "ours" else library.AsyncHTTPTransport()
        assert await heard(await asend(library, transport, asked(library))) == b"well"
        with pytest.raises(library.RemoteProtocolError):
            await asend(library, transport, asked(library))
        await transport.aclose()
    assert count == 1 and len(served.peers) == 1


async def test_a_connection_that_dies_unseen(serve):
    """It was open when it was chosen, and is not when the question goes out."""
    _, direct = await serve(well)
    assert await ask(direct) == b"well"
    (connection,) = direct._idle
    connection._transport.abort()
    with pytest.raises(httpx2.ReadError):
        await connection.ask("GET", b"GET / HTTP/1.1\r\n\r\n", b"")
    assert await ask(direct) == b"well"
    await until(lambda: connection._is_lost)
    with pytest.raises(httpx2.ReadError):
        await connection.ask("GET", b"GET / HTTP/1.1\r\n\r\n", b"")
    assert isinstance(connection, Connection)
