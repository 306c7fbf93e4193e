"""A Redis that says no, or nothing: an error that says what to do, within the deadline."""

import asyncio
import contextlib
import http.server
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from askonce import StoreError
from askonce.errors import StoreRefusedError
from tests.servers.ports import free_port
from tests.servers.proxy import Proxy
from tests.servers.redis import give_redis, running
from tests.stores.redis_asking import (
    BRISK,
    PATIENT,
    each_verb,
    in_both_colours,
    in_time,
    unguarded,
    until,
)


@pytest.fixture
def redis8(give_redis):
    return give_redis("redis8")


def test_a_wrong_password():
    with running("redis8", "--requirepass", "right", password="right") as server:
        each_verb(server.url(PATIENT, user=":secret"), "redis://user:password@host")
        each_verb(server.url(PATIENT), "redis://user:password@host")
        each_verb(server.url(PATIENT, user="secret:secret"), "redis://user:password@host")
        with unguarded(server.url(PATIENT, user=":right")) as store:
            store.write({"a/1": b"x"})


def test_a_user_without_rights_and_one_with_those_that_are_advised(redis8):
    with redis8.client() as client:
        client.execute_command(
            "ACL", "SETUSER", "none", "on", ">p@ss/w", "~askonce:*", "+@connection"
        )
        rules = ("~askonce:*", "+@read", "+@write", "+@scripting", "+@connection")
        client.execute_command("ACL", "SETUSER", "some", "on", ">p@ss/w", *rules)
    each_verb(
        redis8.url(PATIENT, user="none:p%40ss%2Fw"), "has not the rights", kind=StoreRefusedError
    )
    with unguarded(redis8.url(PATIENT, user="some:p%40ss%2Fw")) as store:
        store.write({"a/1": b"x"}, expires=time.time() + 100)
        assert store.read(["a/1"]) == [b"x"]
        assert store.size() > 0
        assert store.leases.claim(["a/1"]) == ["a/1"]
        store.leases.release(["a/1"])
        store.delete(["a/1"])
        assert store.clear("") == 0
    with unguarded(redis8.url(PATIENT + "&prefix=other:", user="some:p%40ss%2Fw")) as store:
        with pytest.raises(StoreRefusedError, match="or your prefix"):
            store.read(["a/1"])


def test_a_replica_takes_no_writes(redis8):
    with running("redis8", "--replicaof", f"127.0.0.1 {redis8.port}") as replica:
        with unguarded(redis8.url(PATIENT)) as store:
            store.write({"a/1": b"x"})
        with unguarded(replica.url(PATIENT)) as store:
            until(lambda: store.read(["a/1"]) == [b"x"])
            for error in (
                *in_both_colours(replica.url(PATIENT), "write", {"a/1": b"y"}),
                *in_both_colours(replica.url(PATIENT), "delete", ["a/1"]),
            ):
                assert type(error) is StoreRefusedError
                assert "URL of its master" in str(error)
            assert store.read(["a/1"]) == [b"x"]


def test_a_full_server_that_gives_up_nothing():
    with running("redis8", "--maxmemory", "3mb", "--maxmemory-policy", "noeviction") as server:
        with unguarded(server.url(PATIENT)) as store:
            store.write({"a/1": b"x"})
            with contextlib.suppress(StoreRefusedError):
                store.write({f"b/{number}": bytes(100_000) for number in range(50)})
            for error in in_both_colours(server.url(PATIENT), "write", {"a/1": bytes(100_000)}):
                assert type(error) is StoreRefusedError
                assert "raise maxmemory" in str(error)
            assert store.read(["a/1"]) == [b"x"]
            store.clear("b/")
            store.write({"a/1": b"y"})


def test_what_answers_is_no_redis():
    handler = http.server.SimpleHTTPRequestHandler
    handler.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        each_verb(f"redis://:secret@127.0.0.1:{server.server_port}{PATIENT}", "rediss://")
        server.shutdown()
        serving.join()


@pytest.mark.parametrize("scheme", ["redis", "valkey", "redis+cluster"])
def test_nobody_at_the_port(scheme):
    port = free_port()
    each_verb(f"{scheme}://user:secret@127.0.0.1:{port}{PATIENT}", "whether it runs")
    each_verb(f"redis+sentinel://:secret@127.0.0.1:{port}/service{PATIENT}", "whether it runs")


def test_a_host_that_is_none():
    url = "redis://" + "x" * 70 + ".invalid:1?lookup_timeout=5&timeout=5"
    with unguarded(url) as store, pytest.raises(StoreError, match="invalid:1"):
        store.read(["a/1"])


@pytest.mark.parametrize("name", ["redis8", "cluster"])
def test_a_server_that_stands_still(give_redis, name):
    server = give_redis(name)
    url = server.url(BRISK)
    nodes = getattr(server, "nodes", [server])
    keys = [f"a/{number}" for number in range(20)]
    connected = unguarded(url)
    in_time(lambda: connected.write(dict.fromkeys(keys, b"x")))
    in_time(lambda: connected.read(keys))

    def use(runner):
        in_time(lambda: runner.run(connected.aread(keys)))
        with nodes[-1].paused():
            found = runner.run(all_of([connected.aread(keys) for _ in range(200)]))
            assert {type(error) for error in found} == {StoreError}
        assert in_time(lambda: runner.run(connected.aread(keys))) == [b"x"] * 20

    async def all_of(tasks):
        return await asyncio.gather(*tasks, return_exceptions=True)

    with nodes[-1].paused():
        for verb, argument in (
            ("read", keys),
            ("write", dict.fromkeys(keys, b"y")),
            ("delete", keys),
        ):
            for error in in_both_colours(url, verb, argument):
                assert "?lookup_timeout=" in str(error)
            with pytest.raises(StoreError, match="lookup_timeout"):
                getattr(connected, verb)(argument)
        with pytest.raises(StoreError):
            connected.leases.claim(keys)
        with ThreadPoolExecutor(50) as pool:
            attempts = [pool.submit(connected.read, keys) for _ in range(50)]
            assert {type(attempt.exception()) for attempt in attempts} == {StoreError}
    # What was sent to it is carried out when it goes on.
    in_time(lambda: connected.write(dict.fromkeys(keys, b"x")))
    assert in_time(lambda: connected.read(keys)) == [b"x"] * 20
    with asyncio.Runner() as runner:
        use(runner)
    connected.close()


def test_a_server_that_was_restarted_is_used_again():
    with running("redis8") as server:
        store = unguarded(server.url(PATIENT))

        async def use():
            await store.awrite({"a/1": b"x"})
            await asyncio.to_thread(restart)
            assert await store.aread(["a/1"]) == [None]

        def restart():
            server.kill()
            server.start()

        store.write({"a/1": b"x"})
        assert store.read(["a/1"]) == [b"x"]
        restart()
        assert store.read(["a/1"]) == [None]
        asyncio.run(use())
        store.close()


@pytest.mark.parametrize("name", ["redis8", "redis6"])
def test_a_reply_that_is_cut_off_is_an_error_and_no_answer(give_redis, name):
    server = give_redis(name)
    entries = {f"a/{number}": b"%d" % number * 500 for number in range(250)}
    with unguarded(server.url(PATIENT)) as store:
        store.write(entries)
    with Proxy(server.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}{PATIENT}"
        for proxy.cut_after in (0, 1, 30, 1000, 60_000, 150_000, 300_000):
            in_both_colours(url, "read", list(entries))
        proxy.cut_after = None
        with unguarded(url) as store:
            assert store.read(list(entries)) == list(entries.values())
