"""The connections to one host: how many, which of them, and that each is given back."""

import asyncio

import httpx2
import pytest

from tests.gateway.upstream.scripted import OK, answer, ask, heard, question, silent, until, well


async def test_connections_are_as_many_as_needed_and_no_more(serve):
    open_now = asyncio.Event()

    async def script(peer):
        while True:
            await peer.asked()
            await open_now.wait()
            await peer.say(answer())

    served, direct = await serve(script, max_connections=3)
    asking = [asyncio.ensure_future(ask(direct)) for _ in range(12)]
    await until(lambda: len(served.peers) == 3)
    assert len(direct._used) == 3
    open_now.set()
    assert await asyncio.gather(*asking) == [b"well"] * 12
    assert len(served.peers) == 3 and len(direct._idle) == 3


async def test_no_connection_becomes_free(serve):
    _, direct = await serve(silent, max_connections=1, connect_timeout=0.05)
    asking = asyncio.ensure_future(ask(direct))
    await until(lambda: direct._used)
    with pytest.raises(httpx2.PoolTimeout):
        await ask(direct)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_a_connection_counts_until_its_response_is_closed(serve):
    served, direct = await serve(well, max_connections=1)
    response = await direct.handle_async_request(question(direct))
    following = asyncio.ensure_future(ask(direct))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not following.done()
    assert await heard(response) == b"well"
    await response.aclose()
    assert await following == b"well"
    assert len(served.peers) == 1


async def test_giving_back_twice_is_giving_back_once(serve):
    _, direct = await serve(well, max_connections=2)
    first = await direct.handle_async_request(question(direct))
    await heard(first)
    second = await direct.handle_async_request(question(direct))
    (connection,) = direct._used
    await first.aclose()
    assert direct._used == {connection} and direct._free._value == 1
    assert await heard(second) == b"well"
    direct.give_back(connection)
    assert direct._free._value == 2 and direct._idle == [connection]


async def test_no_more_than_some_rest(serve, monkeypatch):
    monkeypatch.setattr("askonce.gateway.direct._MOST_IDLE", 2)
    served, direct = await serve(well)
    opened = [await direct.handle_async_request(question(direct)) for _ in range(5)]
    for response in opened:
        await heard(response)
    assert len(served.peers) == 5 and len(direct._idle) == 2


@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_a_server_that_closes_each_connection(serve, method):
    async def script(peer):
        await peer.asked()
        await peer.say(OK + b"Connection: close\r\nContent-Length: 0\r\n\r\n")

    served, direct = await serve(script)
    for _ in range(3):
        assert await ask(direct, method) == b""
    assert len(served.peers) == 3


@pytest.mark.parametrize("framing", [b"", b"Content-Length: 10\r\n", b"Transfer-Encoding: chunked\r\n"])
async def test_closing_all_while_an_answer_comes(serve, framing):
    """Whoever reads is told; nothing is taken for whole, and no connection rests any more."""

    async def script(peer):
        if peer.number:
            await well(peer)
        await peer.asked()
        await peer.say(OK + framing + b"\r\n")
        await peer.gone()

    _, direct = await serve(script)
    response = await direct.handle_async_request(question(direct))
    reading = asyncio.ensure_future(heard(response))
    await asyncio.sleep(0)
    await direct.aclose()
    with pytest.raises(httpx2.ReadError):
        await reading
    assert await ask(direct) == b"well"
    assert not direct._idle


async def test_closing_all_while_the_reading_is_paused(serve):
    async def script(peer):
        await peer.asked()
        await peer.say(OK + b"\r\n")
        while True:
            await peer.say(b"x" * 100_000)

    _, direct = await serve(script)
    response = await direct.handle_async_request(question(direct))
    (connection,) = direct._used
    await until(lambda: connection._is_paused)
    await direct.aclose()
    with pytest.raises(httpx2.ReadError):
        await heard(response)
