"""The connections to one host: how many, which of them, and that each is given back."""

import asyncio
import socket
import types

import httpx
import httpx2
import pytest

from askonce.gateway.connection import Connection
from askonce.gateway.direct import Direct
from askonce.http.steps import Send
from askonce.http.transport_classes import asend, transports
from tests.gateway.upstream.scripted import OK, answer, ask, heard, question, until

TIMES = {"connect_timeout": 10.0, "timeout": 10.0, "max_connections": 3}


async def well(peer):
    while True:
        await peer.asked()
        await peer.say(answer())


async def silent(peer):
    await peer.gone()


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


async def test_ipv6(serve):
    _, direct = await serve(well, host="::1")
    assert await ask(direct) == b"well"


async def test_a_name_with_addresses_of_which_only_one_answers(serve, monkeypatch):
    served, direct = await serve(well)
    loop = asyncio.get_running_loop()
    free = socket.create_server(("127.0.0.1", 0))
    closed = free.getsockname()
    free.close()

    async def getaddrinfo(host, port, **_):
        kind = socket.AF_INET, socket.SOCK_STREAM, 6, ""
        return [(*kind, closed), (*kind, ("127.0.0.1", served.port))]

    named = Direct("up.test", served.port, None, **TIMES)
    monkeypatch.setattr("askonce.gateway.direct.asyncio.get_running_loop", lambda: Loop())

    class Loop:
        def __getattr__(self, name):
            return getaddrinfo if name == "getaddrinfo" else getattr(loop, name)

    assert await ask(named) == b"well"
    await named.aclose()
    await asyncio.sleep(0)


async def test_who_is_not_there():
    free = socket.create_server(("127.0.0.1", 0))
    port = free.getsockname()[1]
    free.close()
    direct = Direct("127.0.0.1", port, None, **TIMES)
    for _ in range(5):
        with pytest.raises(httpx2.ConnectError):
            await ask(direct)
    assert direct._free._value == 3


@pytest.mark.parametrize("host", ["nobody.invalid", "a" * 64 + ".test", "a..b"])
async def test_a_host_that_has_no_address(host, monkeypatch):
    def nowhere(name, *_, **__):
        name.encode("idna")
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    direct = Direct(host, 80, None, **TIMES)
    with pytest.raises(httpx2.ConnectError):
        await direct.handle_async_request(httpx2.Request("GET", "http://up.test/"))
    assert direct._free._value == 3


@pytest.mark.parametrize("over_tls", [False, True])
async def test_who_takes_no_connection_in_time(serve, tls, over_tls):
    """Over TLS, the handshake belongs to it."""
    if over_tls:
        _, plain = await serve(silent)
        direct = Direct("127.0.0.1", plain._port, tls[1], **TIMES | {"connect_timeout": 0.05})
    else:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        # These fill the queue of a listener that accepts nobody.
        queue = [socket.socket() for _ in range(4)]
        for waiting in queue:
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        direct = Direct("127.0.0.1", port, None, **TIMES | {"connect_timeout": 0.05})
    for _ in range(4):
        with pytest.raises(httpx2.ConnectTimeout):
            await ask(direct)
    assert direct._free._value == 3
    if not over_tls:
        for opened in (listener, *queue):
            opened.close()


async def test_a_server_without_tls_or_of_another_name(serve, tls):
    async def script(peer):
        await peer.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await peer.gone()

    _, plain = await serve(script)
    direct = Direct("127.0.0.1", plain._port, tls[1], **TIMES)
    with pytest.raises(httpx2.ConnectError):
        await ask(direct)
    served, _ = await serve(well, over_tls=True)
    direct = Direct("127.0.0.2", served.port, tls[1], **TIMES)
    with pytest.raises(httpx2.ConnectError):
        await direct.handle_async_request(question(direct))
    assert direct._free._value == 3


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


# Cancellation.


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


# Once more, or not.


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
