"""Questions that do not go out whole: timeouts, early answers, and bodies that break off."""

import asyncio

import httpx2
import pytest

from tests.gateway.upstream.scripted import BIG, answer, ask, heard, question, until, well


async def forever(piece):
    while True:
        yield piece
        await asyncio.sleep(0)


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
