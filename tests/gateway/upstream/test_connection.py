"""One connection and what happens on it: timeouts, early answers, backpressure, late bytes."""

import asyncio
import os

import httpx2
import pytest

from askonce.gateway.connection import Connection

from tests.gateway.upstream.scripted import OK, answer, ask, heard, question, until

BIG = b"0123456789abcdef" * (1 << 16)
"""1 MiB."""


async def well(peer):
    while True:
        await peer.asked()
        await peer.say(answer())


async def forever(piece):
    while True:
        yield piece
        await asyncio.sleep(0)


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


@pytest.mark.parametrize("over_tls", [False, True])
@pytest.mark.parametrize("ends", [False, True])
async def test_a_slow_reader_stops_the_reading(serve, over_tls, ends):
    """Of an endless body no more is taken in than what may wait."""
    sent = 0

    async def script(peer):
        nonlocal sent
        await peer.asked()
        await peer.say(OK + b"\r\n")
        while not ends or sent < 64 * len(BIG):
            peer.writer.write(BIG)
            await peer.writer.drain()
            sent += len(BIG)

    _, direct = await serve(script, over_tls=over_tls)
    response = await direct.handle_async_request(question(direct))
    (connection,) = direct._used
    await until(lambda: connection._is_paused)
    for _ in range(100):
        await asyncio.sleep(0)
    assert connection._reading.length <= 2 << 18
    assert sent < 64 * len(BIG)
    if ends:
        read = 0
        async for chunk in response.stream:
            read += len(chunk)
        assert read == sent == 64 * len(BIG)
    await response.aclose()


@pytest.mark.parametrize("framing", [b"", b"Content-Length: 10\r\n", b"Transfer-Encoding: chunked\r\n"])
async def test_a_body_that_does_not_go_on_is_not_whole(serve, framing):
    async def script(peer):
        await peer.asked()
        await peer.say(OK + framing + b"\r\n" + (b"4\r\nbody\r\n" if b"chunked" in framing else b"body"))
        await peer.gone()

    _, direct = await serve(script, timeout=0.05)
    response = await direct.handle_async_request(question(direct))
    body = b""
    with pytest.raises(httpx2.ReadTimeout):
        async for chunk in response.stream:
            body += chunk
    assert body == b"body"
    await response.aclose()


async def test_no_answer_in_time(serve):
    async def script(peer):
        await peer.asked()
        await peer.say(OK[:5])
        assert not await peer.gone()

    _, direct = await serve(script, timeout=0.05)
    with pytest.raises(httpx2.ReadTimeout):
        await ask(direct)


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("over_tls", [False, True])
async def test_who_does_not_read(serve, is_streamed, over_tls):
    async def script(peer):
        await peer.head()
        peer.writer.transport.pause_reading()
        await asyncio.Event().wait()

    _, direct = await serve(script, timeout=0.2, over_tls=over_tls)
    told = [(b"transfer-encoding", b"chunked")] if is_streamed else []
    content = forever(BIG) if is_streamed else BIG * 32
    asked = question(direct, content=content, headers=told)
    with pytest.raises(httpx2.WriteTimeout):
        await direct.handle_async_request(asked)
    if is_streamed:
        assert asked.stream.is_closed
        assert asked.stream.given < 32 * len(BIG)


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("over_tls", [False, True])
async def test_an_answer_before_the_end_of_the_question(serve, is_streamed, over_tls):
    """It is given, and the rest of the question goes into no other one."""

    async def script(peer):
        if peer.number == 0:
            await peer.head()
            await peer.say(answer(b"too much"))
            await peer.gone()
        else:
            await well(peer)

    served, direct = await serve(script, over_tls=over_tls)
    told = [(b"transfer-encoding", b"chunked")] if is_streamed else []
    asked = question(direct, content=forever(BIG) if is_streamed else BIG * 32, headers=told)
    assert await heard(await direct.handle_async_request(asked)) == b"too much"
    assert not is_streamed or asked.stream.is_closed
    assert await ask(direct) == b"well"
    assert len(served.peers) == 2


@pytest.mark.parametrize("is_answered", [False, True])
async def test_a_question_that_breaks_off(serve, is_answered):
    """Not even where an answer has come may another question follow half of one."""
    heads = []

    async def script(peer):
        while True:
            heads.append(await peer.head())
            if is_answered or peer.number:
                await peer.say(answer())

    served, direct = await serve(script)
    assert not is_answered or await ask(direct) == b"well"

    async def pieces():
        yield b"half"
        if is_answered:
            await until(lambda: next(iter(direct._used))._reading.is_whole)
        raise LookupError("gone")

    asked = question(direct, content=pieces(), headers=[(b"content-length", b"8")])
    with pytest.raises(LookupError):
        await direct.handle_async_request(asked)
    assert not direct._idle
    assert await ask(direct) == b"well"
    assert len(served.peers) == 2


@pytest.mark.parametrize(("told", "pieces"), [(3, [b"body"]), (5, [b"body"]), (6, [b"body"] * 2)])
async def test_a_question_of_another_length_than_told(serve, told, pieces):
    served, direct = await serve(well)

    async def given():
        for piece in pieces:
            yield piece

    assert await ask(direct) == b"well"
    asked = question(direct, content=given(), headers=[(b"content-length", b"%d" % told)])
    with pytest.raises(httpx2.LocalProtocolError):
        await direct.handle_async_request(asked)
    assert asked.stream.is_closed
    assert await ask(direct) == b"well"
    assert len(served.peers) == 2


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


@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("said", [b"", OK[:7], OK + b"Content-Length: 9\r\n"])
async def test_a_connection_that_ends_before_the_answer(serve, said, resets):
    async def script(peer):
        await peer.asked()
        await peer.say(said)
        if resets:
            await asyncio.sleep(0.01)
            peer.reset()

    _, direct = await serve(script)
    kind = httpx2.ReadError if resets else httpx2.RemoteProtocolError
    with pytest.raises(kind):
        await ask(direct)


@pytest.mark.parametrize("resets", [False, True])
async def test_a_body_until_the_end(serve, resets):
    async def script(peer):
        await peer.asked()
        await peer.say(OK + b"\r\n", b"bo", b"dy")
        if resets:
            await told.wait()
            peer.reset()

    told = asyncio.Event()
    _, direct = await serve(script)
    response = await direct.handle_async_request(question(direct))
    body = b""
    if resets:
        with pytest.raises(httpx2.ReadError):
            async for chunk in response.stream:
                body += chunk
                if body == b"body":
                    told.set()
    else:
        async for chunk in response.stream:
            body += chunk
    await response.aclose()
    assert body == b"body" and not direct._idle


@pytest.mark.parametrize("framing", [b"", b"Content-Length: 10\r\n"])
async def test_a_body_that_is_closed_while_it_is_read_is_not_whole(serve, framing):
    async def script(peer):
        await peer.asked()
        await peer.say(OK + framing + b"\r\nbody")
        await peer.gone()

    _, direct = await serve(script)
    response = await direct.handle_async_request(question(direct))
    pieces = aiter(response.stream)
    assert await anext(pieces) == b"body"
    reading = asyncio.ensure_future(anext(pieces))
    await asyncio.sleep(0)
    await response.aclose()
    with pytest.raises(httpx2.ReadError):
        await reading
    with pytest.raises(httpx2.ReadError):
        await anext(aiter(response.stream))


async def test_a_reader_that_wakes_after_the_next_question_does_not_harm_it(serve):
    rest = asyncio.Event()

    async def script(peer):
        await peer.asked()
        await peer.say(OK + b"Content-Length: 8\r\n\r\nbody")
        await rest.wait()
        await peer.say(b"rest")
        await well(peer)

    served, direct = await serve(script)
    response = await direct.handle_async_request(question(direct))
    pieces = aiter(response.stream)
    assert await anext(pieces) == b"body"
    reading = asyncio.ensure_future(anext(pieces))
    await asyncio.sleep(0)
    (connection,) = direct._used
    tell, followed = connection._tell, []

    async def follow():
        await response.aclose()
        return await ask(direct)

    def told():
        # This task starts before the reader wakes.
        if connection._reading is not None and connection._reading.is_whole and not followed:
            followed.append(asyncio.ensure_future(follow()))
        tell()

    connection._tell = told
    rest.set()
    assert await reading == b"rest"
    assert await followed[0] == b"well"
    del connection._tell
    assert len(served.peers) == 1


async def test_an_answer_that_nobody_reads_leaves_nothing_behind(serve):
    """A connection whose reading is paused would hear of nothing any more."""

    async def script(peer):
        while True:
            await peer.asked()
            await peer.say(answer(BIG[:300_000]))

    served, direct = await serve(script)
    for _ in range(3):
        response = await direct.handle_async_request(question(direct))
        (connection,) = direct._used
        await until(lambda: connection._is_paused or connection._reading.is_whole)
        await response.aclose()
    assert len(await ask(direct)) == 300_000
    assert len(served.peers) <= 4


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
