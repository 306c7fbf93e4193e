"""One connection, question after question: what may follow, and bytes that come late."""

import asyncio
import os

import httpx2
import pytest

from askonce.gateway.connection import Connection
from tests.gateway.upstream.scripted import BIG, OK, answer, ask, heard, question, until, well


@pytest.mark.parametrize("over_tls", [False, True])
async def test_exchanges_follow_each_other(serve, over_tls):
    async def script(peer):
        while True:
            head, body = await peer.asked()
            await peer.say(answer(b"%d " % peer.number + head.split(b" ")[1] + body))

    served, direct = await serve(script, over_tls=over_tls)
    for number in range(5):
        body = b"%d" % number * number
        assert await ask(direct, content=body, path=f"/{number}") == b"0 /%d%s" % (number, body)
    assert len(served.peers) == 1


@pytest.mark.parametrize("over_tls", [False, True])
async def test_large_bodies_in_both_directions(serve, over_tls):
    async def script(peer):
        while True:
            _, body = await peer.asked()
            if body.endswith(b"0\r\n\r\n"):
                body = b"".join(body.split(b"\r\n")[1:-3:2])
            await peer.say(answer(body))

    served, direct = await serve(script, over_tls=over_tls)

    async def pieces():
        for start in range(0, len(BIG), 100_000):
            yield BIG[start : start + 100_000]

    assert await ask(direct, content=BIG) == BIG
    told = [(b"transfer-encoding", b"chunked")]
    assert await ask(direct, content=pieces(), headers=told) == BIG
    told = [(b"content-length", b"%d" % len(BIG))]
    assert await ask(direct, content=pieces(), headers=told) == BIG
    assert len(served.peers) == 1


@pytest.mark.parametrize("late", [answer(b"wrong"), b"x", b"\r\n"])
@pytest.mark.parametrize("over_tls", [False, True])
async def test_what_comes_late_answers_nothing(serve, late, over_tls):
    resting = asyncio.Event()

    async def script(peer):
        if peer.number == 0:
            await peer.asked()
            await peer.say(answer(b"first"))
            await resting.wait()
            await peer.say(late)
            assert not await peer.gone()
        else:
            await well(peer)

    served, direct = await serve(script, over_tls=over_tls)
    assert await ask(direct) == b"first"
    resting.set()
    await until(lambda: not direct._idle)
    assert await ask(direct) == b"well"
    assert len(served.peers) == 2


async def test_what_nobody_has_seen_yet_answers_nothing(serve):
    """The bytes are there, but the event loop has had no time to look."""
    served, direct = await serve(well)
    assert await ask(direct) == b"well"
    (connection,) = direct._idle
    assert connection.is_silent
    told = served.peers[0].writer.get_extra_info("socket")
    os.write(told.fileno(), answer(b"wrong"))
    assert connection.is_open and not connection.is_silent
    assert await ask(direct) == b"well"
    assert len(served.peers) == 2


async def test_more_than_was_asked_for_ends_the_connection(serve):
    async def script(peer):
        while True:
            await peer.asked()
            await peer.say(answer() + answer(b"wrong"))

    served, direct = await serve(script)
    for _ in range(3):
        assert await ask(direct) == b"well"
    assert len(served.peers) == 3


@pytest.mark.parametrize("over_tls", [False, True])
async def test_who_speaks_first_is_not_listened_to(serve, over_tls):
    async def script(peer):
        await peer.say(answer(b"wrong"))
        await peer.gone()

    _, direct = await serve(script, over_tls=over_tls)
    connection = await direct.connect()
    await until(lambda: not connection.is_open)
    with pytest.raises(httpx2.ReadError):
        await connection.ask("GET", b"GET / HTTP/1.1\r\n\r\n", b"")


@pytest.mark.parametrize("over_tls", [False, True])
@pytest.mark.parametrize("resets", [False, True])
async def test_a_resting_connection_that_the_server_closes(serve, resets, over_tls):
    async def script(peer):
        await peer.asked()
        await peer.say(answer())
        if resets:
            peer.reset()

    served, direct = await serve(script, over_tls=over_tls)
    for number in range(3):
        assert await ask(direct) == b"well"
        await until(lambda: not direct._idle)
        assert len(served.peers) == number + 1


async def test_a_resting_connection_expires(serve, monkeypatch):
    monkeypatch.setattr("askonce.gateway.direct._IDLE_FOR", 0.01)
    served, direct = await serve(well)
    assert await ask(direct) == b"well"
    await until(lambda: not direct._idle)
    assert await ask(direct) == b"well"
    assert len(served.peers) == 2


async def test_interim_answers_and_heads(serve):
    async def script(peer):
        while True:
            head, _ = await peer.asked()
            await peer.say(b"HTTP/1.1 100 Go on\r\n\r\n", b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n")
            if head.startswith(b"HEAD"):
                await peer.say(OK + b"Content-Length: 4\r\n\r\n")
            else:
                await peer.say(b"HTTP/1.1 204 None\r\n\r\n")

    served, direct = await serve(script)
    response = await direct.handle_async_request(question(direct, "GET"))
    assert response.status_code == 204 and "link" not in response.headers
    assert await heard(response) == b""
    response = await direct.handle_async_request(question(direct, "HEAD"))
    assert response.headers["content-length"] == "4"
    assert await heard(response) == b""
    assert len(served.peers) == 1


class Wire(asyncio.Transport):
    """Be a transport that takes everything and sends nothing."""

    def __init__(self):
        super().__init__()
        self.is_closed = False

    def write(self, data):
        assert not self.is_closed

    def abort(self):
        self.is_closed = True

    def is_closing(self):
        return self.is_closed


@pytest.mark.parametrize("is_sent", [False, True])
async def test_what_has_not_gone_out_is_before_no_other_question(is_sent):
    connection = Connection(10.0, lambda _: None)
    connection.connection_made(Wire())
    asking = asyncio.ensure_future(connection.ask("POST", b"POST / HTTP/1.1\r\n\r\n", b""))
    await asyncio.sleep(0)
    connection.pause_writing()
    connection.data_received(answer())
    reading = await asking
    assert await connection.chunk(reading) == b"well" and reading.is_whole
    if is_sent:
        connection.resume_writing()
    assert connection.may_stay == is_sent


async def test_a_question_on_a_connection_that_is_lost_does_not_go_out():
    connection = Connection(10.0, lambda _: None)
    connection.connection_made(Wire())
    connection.connection_lost(None)
    with pytest.raises(httpx2.ReadError):
        await connection.ask("GET", b"GET / HTTP/1.1\r\n\r\n", b"")


async def test_a_connection_whose_other_side_has_ended_is_not_open():
    """Over TLS, its transport tells that only later."""
    connection = Connection(10.0, lambda _: None)
    connection.connection_made(Wire())
    assert connection.is_open
    connection.eof_received()
    assert not connection.is_open
