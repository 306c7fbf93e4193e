"""Connecting to a host: its addresses, the time that may take, and TLS."""

import asyncio
import socket

import httpx2
import pytest

from askonce.gateway.direct import Direct
from tests.gateway.upstream.scripted import ask, question, silent, well

TIMES = {"connect_timeout": 10.0, "timeout": 10.0, "max_connections": 3}


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
