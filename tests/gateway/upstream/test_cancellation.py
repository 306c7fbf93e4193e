"""Whoever is cancelled, at whatever await, leaves nothing behind."""

import asyncio
import types

import pytest

from tests.gateway.upstream.scripted import OK, ask, heard, question, well


@types.coroutine
def cancelled_at(coroutine, point, late, reached):
    """Run a coroutine, and cancel its task at an await: before what it waits for, or just after."""
    steps, count, value = coroutine.__await__(), 0, None
    try:
        while True:
            waits_for = steps.send(value)
            count += 1
            if count == point:
                reached.append(point)
                task = asyncio.current_task()
                if not late:
                    task.cancel()
                elif waits_for is None:
                    asyncio.get_running_loop().call_soon(task.cancel)
                else:
                    waits_for.add_done_callback(lambda _: task.cancel())
            while True:
                try:
                    value = yield waits_for
                    break
                except BaseException as error:
                    waits_for = steps.throw(error)
                    count += 1
    except StopIteration as stop:
        return stop.value


BODY = b"x" * 100_000


def fresh(direct):
    return ask(direct)


async def _pieces():
    for _ in range(3):
        yield BODY[: len(BODY) // 3]
        await asyncio.sleep(0)


def streamed(direct):
    return ask(direct, content=_pieces(), headers=[(b"transfer-encoding", b"chunked")])


def big(direct):
    return ask(direct, content=BODY * 30)


def queued(direct):
    return ask(direct)


@pytest.mark.parametrize("over_tls", [False, True])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("is_kept", [False, True])
@pytest.mark.parametrize("doing", [fresh, streamed, big, queued])
async def test_whoever_is_cancelled_leaves_nothing_behind(serve, over_tls, late, is_kept, doing):
    async def script(peer):
        while True:
            await peer.asked()
            await peer.say(OK + b"Content-Length: 8\r\n\r\n", b"very")
            await asyncio.sleep(0)
            await peer.say(b"well")

    _, direct = await serve(script, over_tls=over_tls, max_connections=2)
    if not is_kept:
        direct._idle = Nothing()
    point = 0
    while True:
        point += 1
        reached = []
        if is_kept:
            assert await ask(direct) == b"verywell"
        count = 2 if doing is queued else 0
        opened = [await direct.handle_async_request(question(direct)) for _ in range(count)]
        before = [asyncio.ensure_future(heard(response)) for response in opened]
        walking = cancelled_at(doing(direct), point, late, reached)
        task = asyncio.ensure_future(_run(walking))
        outcome = (await asyncio.gather(task, return_exceptions=True))[0]
        assert isinstance(outcome, asyncio.CancelledError) or outcome == b"verywell", repr(outcome)
        assert await asyncio.gather(*before) == [b"verywell"] * len(before)
        assert not direct._used and direct._free._value == 2
        if not reached:
            break
    assert point > 2
    assert await ask(direct) == b"verywell"


async def _run(walking):
    return await walking


class Nothing(list):
    """Keep no connection."""

    def append(self, connection):
        connection.close()


async def test_whoever_is_cancelled_while_waiting_for_a_connection(serve):
    _, direct = await serve(well, max_connections=1)
    response = await direct.handle_async_request(question(direct))
    waiting = [asyncio.ensure_future(ask(direct)) for _ in range(4)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    giving = asyncio.ensure_future(heard(response))
    waiting[1].cancel()
    assert await giving == b"well"
    waiting[2].cancel()
    assert await waiting[3] == b"well"
    await asyncio.gather(*waiting, return_exceptions=True)
