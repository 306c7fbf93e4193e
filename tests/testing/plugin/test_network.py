"""The network, which can be forbidden."""

import socket

from tests.testing.plugin.suites import run

pytest_plugins = ["pytester"]


def test_sockets_can_be_forbidden(suite, server):
    code = """
        import socket, urllib.request, asyncio
        from urllib.parse import urlsplit

        def test_connect():
            address = urlsplit(URL)
            with socket.socket() as one:
                one.connect((address.hostname, address.port))

        def test_resolve():
            urllib.request.urlopen("http://localhost:1/")

        async def test_async():
            await asyncio.open_connection("127.0.0.1", 1)

        def test_a_local_socket_may():
            one, two = socket.socketpair()
            one.close(), two.close()
    """
    result = run(suite, "--askonce-no-network", code=code, passed=1, failed=3)
    result.stdout.fnmatch_lines(["*something connects to*--askonce-no-network forbids it*"])
    assert socket.socket.connect.__qualname__ != "forbidden.<locals>.guard.<locals>.connect"
