"""Answers and their bodies: backpressure, timeouts, ends too early, readers that stop."""

import asyncio

import httpx2
import pytest

from tests.gateway.upstream.scripted import BIG, OK, answer, ask, question, until, well


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
