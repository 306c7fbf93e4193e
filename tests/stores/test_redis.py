import asyncio
import contextlib
import gc
import http.server
import math
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from askonce import InputError, MissingExtraError, Store, StoreError, open_store
from askonce.errors import StoreRefusedError
from askonce.stores import Location
from askonce.stores.redis_address import Address, Node
from askonce.testing import Opener, Raw, StoreTests
from tests.alone import alone
from tests.servers.proxy import Authority, Proxy
from tests.servers.redis import SERVERS, Watched, give_redis, running
from tests.stores import forks

PATIENT = "?lookup_timeout=30&timeout=30"
BRISK = "?lookup_timeout=0.2&timeout=0.5"


@pytest.fixture(params=SERVERS)
def server(request, give_redis):
    return give_redis(request.param)


@pytest.fixture
def redis8(give_redis):
    return give_redis("redis8")


@pytest.fixture
def cluster(give_redis):
    return give_redis("cluster")


def unguarded(url: str) -> Store:
    """Open a store that is asked again at once after it failed."""
    return open_store(url).store


class TestRedisStore(StoreTests):
    @pytest.fixture
    def opener(self, server) -> Opener:
        return lambda: open_store(server.url(PATIENT))

    @pytest.fixture
    def raw(self, server) -> Raw:
        def read():
            found = server.dump()
            assert all(name.startswith(b"askonce:") for name in found)
            return {name[8:].decode(): value for name, value in found.items()}

        return read


# What is whose


def test_nothing_outside_the_prefix_is_touched(server):
    foreign = {f"other:{number}": b"x" for number in range(5)} | {"askonce": b"x", "askonc:e/1": b"x"}
    with unguarded(server.url(PATIENT)) as store:
        _put(server, foreign)
        store.write({"a/1": b"x"})
        assert list(store.keys()) == ["a/1"]
        store.delete(["other:1", "../other:1"])
        assert store.size() == len("askonce:a/1") + 1
        assert store.clear("") == 1
    assert server.dump() == {key.encode(): value for key, value in foreign.items()}


def _put(server, entries):
    with unguarded(server.url(PATIENT + "&prefix=x")) as store:
        names = {key.encode(): value for key, value in entries.items()}
        commands = [(b"SET", name, value) for name, value in names.items()]
        store._server.run(store._topology.send(commands))


def test_a_prefix_is_no_pattern(server):
    with (
        unguarded(server.url(PATIENT + "&prefix=a*[b]?\\:")) as odd,
        unguarded(server.url(PATIENT + "&prefix=aXbX\\:")) as other,
    ):
        odd.write({"k/1": b"odd"})
        other.write({"k/2": b"other"})
        assert list(odd.keys()) == ["k/1"]
        assert odd.clear("") == 1
        assert list(other.keys()) == ["k/2"]


def test_a_key_of_another_type_is_a_miss_and_no_entry_until_it_is_written(server):
    with unguarded(server.url(PATIENT)) as store:
        push = store._topology.send([(b"RPUSH", b"askonce:a/list", b"x")])
        assert store._server.run(push) == [1]
        store.write({"a/1": b"one"})
        assert store.read(["a/list", "a/1"]) == [None, b"one"]
        assert list(store.keys()) == ["a/1"]
        assert store.clear("") == 1
        store.write({"a/list": b"mine"})
        assert store.read(["a/list"]) == [b"mine"]


def test_a_name_that_is_no_text_is_left_alone(redis8):
    with redis8.client() as client, unguarded(redis8.url(PATIENT)) as store:
        client.set(b"askonce:\xff\xfe", b"x")
        assert list(store.keys()) == []
        assert store.clear("") == 0
        assert client.exists(b"askonce:\xff\xfe")


def test_the_keys_of_leases_are_not_for_entries(redis8):
    with unguarded(redis8.url(PATIENT)) as store:
        with pytest.raises(StoreRefusedError, match="lease:"):
            store.write({"a/1": b"x", "lease:a/1": b"x"})
        assert list(store.keys()) == []


def test_the_database_is_the_one_of_the_url(redis8):
    with unguarded(redis8.url("/3" + PATIENT)) as third, unguarded(redis8.url(PATIENT)) as first:
        third.write({"a/1": b"x"})
        assert list(first.keys()) == []
        assert list(third.keys()) == ["a/1"]


# Time


def test_the_server_gives_up_what_has_expired_and_nothing_else(server):
    now = time.time()
    ends = {"never": math.inf, "far": 1e300, "soon": now + 1000.5, "past": now - 5, "ago": 0.0, "bc": -9.0}
    with unguarded(server.url(PATIENT)) as store:
        for name, end in ends.items():
            store.write({f"a/{name}": b"x"}, expires=end)
        assert sorted(store.keys()) == ["a/far", "a/never", "a/soon"]
        names = [f"askonce:a/{name}".encode() for name in ends]
        left = store._server.run(store._topology.send([(b"PTTL", name) for name in names]))
        assert left[:2] == [-1, -1]
        assert 900_000 < left[2] <= 1_000_500
        assert left[3:] == [-2, -2, -2]
        store.write({"a/soon": b"x"})
        assert store._server.run(store._topology.send([(b"PTTL", names[2])])) == [-1]


# Sizes


def test_replies_are_kept_small_when_values_are_large(redis8):
    with unguarded(redis8.url(PATIENT)) as store:
        entries = {f"a/{number}": bytes([number]) * 500_000 for number in range(12)}
        asked = []
        store.write(entries)
        send = store._topology.send
        store._topology.send = lambda commands: asked.append(commands) or send(commands)
        for _ in range(10):
            assert store.read(list(entries)) == list(entries.values())
        assert len(asked[0]) == 1
        assert len(asked[-1]) >= 6


# Both colours, several loops


def in_both_colours(url, verb, *arguments):
    """Call a verb in one colour and the other, each with a store of its own; give both errors."""
    with unguarded(url) as store, pytest.raises(StoreError) as sync:
        list(result) if verb == "keys" and (result := store.keys()) else getattr(store, verb)(
            *arguments
        )

    async def call():
        store = unguarded(url)
        try:
            if verb == "keys":
                return [key async for key in store.akeys()]
            return await getattr(store, f"a{verb}")(*arguments)
        finally:
            await store.aclose()

    with pytest.raises(StoreError) as coloured:
        asyncio.run(call())
    return sync.value, coloured.value


def test_several_loops_at_the_same_time(server):
    store = unguarded(server.url(PATIENT))
    together = threading.Barrier(4)

    async def use(number):
        await store.awrite({f"a/{number}": b"x"})
        together.wait()  # while all of them have connections
        for turn in range(20):
            await store.awrite({f"a/{number}": bytes([turn])})
            assert await store.aread([f"a/{number}"]) == [bytes([turn])]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: asyncio.run(use(number)), range(4)))
    assert len(list(store.keys())) == 4
    store.close()


def test_connections_end_with_their_loop(redis8):
    store = unguarded(redis8.url(PATIENT))

    async def use():
        await asyncio.gather(*(store.aread([f"a/{number}"]) for number in range(10)))
        return _count_clients(redis8)

    assert asyncio.run(use()) > 1
    gc.collect()
    _until(lambda: _count_clients(redis8) == 1)
    assert len(store._server._loops) <= 1
    store.close()


def test_closing_in_a_running_loop_leaves_no_connection(redis8):
    async def use(close):
        store = unguarded(redis8.url(PATIENT))
        await store.awrite({"a/1": b"x"})
        if close == "sync":
            store.close()
        else:
            await store.aclose()
        for _ in range(1000):
            if _count_clients(redis8) == 1:
                return
            await asyncio.sleep(0.005)
        pytest.fail("a connection stayed open")

    for close in ("sync", "async"):
        asyncio.run(use(close))


def test_closing_between_two_runs_of_a_loop(redis8):
    with asyncio.Runner() as runner:
        store = unguarded(redis8.url(PATIENT))
        runner.run(store.awrite({"a/1": b"x"}))
        store.close()
        another = unguarded(redis8.url(PATIENT))
        assert runner.run(another.aread(["a/1"])) == [b"x"]
        del store, another
        gc.collect()


def _count_clients(server):
    with server.client() as client:
        return client.info("clients")["connected_clients"]


def _until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_thousand_tasks_share_the_connections(redis8):
    async def use():
        store = open_store(redis8.url())  # however short the deadline is
        await store.awrite({f"a/{number}": b"%d" % number for number in range(1000)})
        found = await asyncio.gather(*(store.aread([f"a/{number}"]) for number in range(1000)))
        assert found == [[b"%d" % number] for number in range(1000)]
        assert _count_clients(redis8) < 40
        await store.aclose()

    asyncio.run(use())


def test_a_loop_that_is_busy_itself_is_not_the_servers_fault(redis8):
    async def use():
        store = unguarded(redis8.url())
        await store.awrite({"a/1": b"x"})
        await store.aread(["a/1"])
        for _ in range(5):
            reading = asyncio.ensure_future(store.aread(["a/1"]))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            time.sleep(0.1)  # the loop can do nothing meanwhile
            assert await reading == [b"x"]
        await store.aclose()

    asyncio.run(use())


def test_a_cancelled_read_mixes_nothing_up(server):
    async def use():
        store = unguarded(server.url(PATIENT))
        entries = {f"a/{number}": b"%d" % number * 100 for number in range(300)}
        await store.awrite(entries)
        for turn in range(60):
            reading = asyncio.ensure_future(store.aread(list(entries)))
            for _ in range(turn % 12):
                await asyncio.sleep(0)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            key = f"a/{turn}"
            assert await store.aread([key]) == [entries[key]]
        await store.aclose()

    asyncio.run(use())


@pytest.mark.parametrize(
    "scenario", [forks.use_in_both, forks.outlive_the_parent, forks.fork_amid_threads]
)
@pytest.mark.parametrize("name", ["redis8", "cluster"])
def test_survives_a_fork(give_redis, name, scenario):
    alone(scenario, give_redis(name).url(PATIENT))


def test_fifty_threads_share_it(server):
    with unguarded(server.url(PATIENT)) as store, ThreadPoolExecutor(50) as pool:
        start = threading.Barrier(50)

        def work(thread):
            start.wait()
            for turn in range(5):
                store.write({f"a/{thread}": bytes([turn]), "a/shared": bytes([thread])})
                assert store.read([f"a/{thread}"]) == [bytes([turn])]

        list(pool.map(work, range(50)))
        assert len(list(store.keys())) == 51


def test_says_that_it_is_closed(redis8):
    store = unguarded(redis8.url())
    store.write({"a/1": b"x"})
    store.close()
    for use in (
        lambda: store.read(["a/1"]),
        lambda: store.write({"a/1": b"x"}),
        lambda: store.delete(["a/1"]),
        lambda: list(store.keys()),
        lambda: asyncio.run(store.aread(["a/1"])),
    ):
        with pytest.raises(StoreError, match="closed"):
            use()


# Trouble: each in both colours, and never with what is secret


def each_verb(url, match, *, kind=StoreError):
    verbs = [
        ("read", ["a/1", "a/2"]),
        ("write", {"a/1": b"x"}),
        ("delete", ["a/1"]),
        ("keys",),
        ("clear", ""),
        ("size",),
    ]
    for verb, *arguments in verbs:
        for error in in_both_colours(url, verb, *arguments):
            assert type(error) is kind, (verb, error)
            assert match in str(error), verb
            assert "secret" not in str(error), verb
            assert "127.0.0.1" in str(error), verb


def test_a_wrong_password():
    with running("redis8", "--requirepass", "right", password="right") as server:
        each_verb(server.url(BRISK, user=":secret"), "redis://user:password@host")
        each_verb(server.url(BRISK), "redis://user:password@host")
        each_verb(server.url(BRISK, user="secret:secret"), "redis://user:password@host")
        with unguarded(server.url(PATIENT, user=":right")) as store:
            store.write({"a/1": b"x"})


def test_a_user_without_rights_and_one_with_those_that_are_advised(redis8):
    with redis8.client() as client:
        client.execute_command("ACL", "SETUSER", "none", "on", ">p@ss/w", "~askonce:*", "+@connection")
        rules = ("~askonce:*", "+@read", "+@write", "+@scripting", "+@connection")
        client.execute_command("ACL", "SETUSER", "some", "on", ">p@ss/w", *rules)
    each_verb(
        redis8.url(BRISK, user="none:p%40ss%2Fw"), "has not the rights", kind=StoreRefusedError
    )
    with unguarded(redis8.url(PATIENT, user="some:p%40ss%2Fw")) as store:
        store.write({"a/1": b"x"}, expires=time.time() + 100)
        assert store.read(["a/1"]) == [b"x"]
        assert store.size() > 0
        assert store.leases.claim(["a/1"]) == ["a/1"]
        store.leases.release(["a/1"])
        store.delete(["a/1"])
        assert store.clear("") == 0
    with unguarded(redis8.url(BRISK + "&prefix=other:", user="some:p%40ss%2Fw")) as store:
        with pytest.raises(StoreRefusedError, match="or your prefix"):
            store.read(["a/1"])


def test_a_replica_takes_no_writes(redis8):
    with running("redis8", "--replicaof", f"127.0.0.1 {redis8.port}") as replica:
        with unguarded(redis8.url(PATIENT)) as store:
            store.write({"a/1": b"x"})
        with unguarded(replica.url(PATIENT)) as store:
            _until(lambda: store.read(["a/1"]) == [b"x"])
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
        each_verb(f"redis://:secret@127.0.0.1:{server.server_port}{BRISK}", "rediss://")
        server.shutdown()
        serving.join()


@pytest.mark.parametrize("scheme", ["redis", "valkey", "redis+cluster"])
def test_nobody_at_the_port(scheme):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    each_verb(f"{scheme}://user:secret@127.0.0.1:{port}{BRISK}", "whether it runs")
    each_verb(f"redis+sentinel://:secret@127.0.0.1:{port}/service{BRISK}", "whether it runs")


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
    connected.write(dict.fromkeys(keys, b"x"))
    connected.read(keys)

    async def use():
        await connected.aread(keys)
        with nodes[-1].paused():
            tasks = [connected.aread(keys) for _ in range(200)]
            found = await asyncio.gather(*tasks, return_exceptions=True)
            assert {type(error) for error in found} == {StoreError}
        assert await connected.aread(keys) == [b"x"] * 20

    with nodes[-1].paused():
        for verb, argument in (("read", keys), ("write", dict.fromkeys(keys, b"y")), ("delete", keys)):
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
    connected.write(dict.fromkeys(keys, b"x"))
    assert connected.read(keys) == [b"x"] * 20
    asyncio.run(use())
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


# Clusters


def test_a_node_of_a_cluster_alone_says_what_to_write(cluster):
    url = cluster.nodes[0].url(BRISK)
    keys = [f"a/{number}" for number in range(20)]
    for error in in_both_colours(url, "write", dict.fromkeys(keys, b"x")):
        assert "redis+cluster://" in str(error)
    for error in in_both_colours(url, "read", keys):
        assert type(error) is StoreError


def test_a_server_that_is_no_cluster_says_what_to_write(redis8):
    each_verb(redis8.url(BRISK, scheme="redis+cluster"), "write redis://")


def test_any_node_leads_to_the_others(cluster):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = taken.getsockname()[1]
    url = f"redis+cluster://127.0.0.1:{nobody},127.0.0.1:{cluster.nodes[2].port}{PATIENT}"
    keys = [f"a/{number}" for number in range(100)]
    with unguarded(url) as store:
        store.write(dict.fromkeys(keys, b"x"))
        assert store.read(keys) == [b"x"] * 100
    for node in cluster.nodes:
        with node.client() as client:
            assert client.dbsize() > 10


def test_a_slot_that_moves_loses_nothing(cluster):
    key = "a/moving"
    source, target = _owner_and_other(cluster, key)
    slot = redis.crc.key_slot(f"askonce:{key}".encode())
    store = unguarded(cluster.url(PATIENT))
    others = {f"a/{number}": b"%d" % number for number in range(100)}
    store.write({key: b"before", **others})

    def reads(wanted):
        keys = [key, *others]
        assert store.read(keys) == [wanted, *others.values()]
        assert asyncio.run(store.aread(keys)) == [wanted, *others.values()]

    for giver, taker in ((source, target), (target, source)):
        with giver.client() as old, taker.client() as new:
            ids = [client.execute_command("CLUSTER MYID").decode() for client in (old, new)]
            new.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[0])
            old.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[1])
            reads(b"before")  # there still
            old.execute_command("MIGRATE", "127.0.0.1", taker.port, f"askonce:{key}", 0, 5000)
            reads(b"before")  # the old owner says ASK
            store.write({key: b"amid"})
            reads(b"amid")
            for client in (new, old):
                client.execute_command("CLUSTER SETSLOT", slot, "NODE", ids[1])
            reads(b"amid")  # the old owner says MOVED
            store.write({key: b"before"})
    assert sorted(store.keys()) == sorted([key, *others])
    assert store.clear("") == 101
    store.close()


def _owner_and_other(cluster, key):
    slot = redis.crc.key_slot(f"askonce:{key}".encode())
    owner = cluster.nodes[0 if slot < 5461 else 1 if slot < 10922 else 2]
    return owner, next(node for node in cluster.nodes if node is not owner)


# Sentinel and TLS


def test_sentinels_lead_to_the_master_after_a_failover_too():
    watched = Watched()
    try:
        watched.start()
        store = unguarded(watched.url("/0" + PATIENT))
        store.write({"a/1": b"x"})
        assert asyncio.run(store.aread(["a/1"])) == [b"x"]
        assert watched.master.dump() == {b"askonce:a/1": b"x"}
        watched.fail_over()
        with contextlib.suppress(StoreError):
            store.write({"a/2": b"y"})  # the last one that the old master refuses
        store.write({"a/2": b"y"})
        assert store.read(["a/1", "a/2"]) == [b"x", b"y"]
        assert watched.replica.dump() == {b"askonce:a/1": b"x", b"askonce:a/2": b"y"}
        store.close()
        unknown = watched.url(PATIENT).replace("the%20master", "another")
        for error in in_both_colours(unknown, "read", ["a/1"]):
            assert "no sentinel knows the service 'another'" in str(error)
    finally:
        watched.remove()


@pytest.mark.parametrize("scheme", ["rediss", "valkeys"])
def test_tls_with_a_certificate_of_a_known_authority(redis8, tmp_path, scheme):
    authority = Authority(tmp_path)
    with Proxy(redis8.port, authority.context()) as proxy:
        url = f"{scheme}://127.0.0.1:{proxy.port}{PATIENT}"
        with unguarded(f"{url}&ssl_ca_certs={authority.file}") as store:
            store.write({"a/1": b"x" * 100_000})
            assert store.read(["a/1"]) == [b"x" * 100_000]
            assert asyncio.run(store.aread(["a/1"])) == [b"x" * 100_000]
        for error in in_both_colours(url, "read", ["a/1"]):
            assert "certificate" in str(error).lower()
        with unguarded(f"{url}&ssl_cert_reqs=none") as store:
            assert store.read(["a/1"]) == [b"x" * 100_000]
        plain = f"redis://:secret@127.0.0.1:{proxy.port}{BRISK}"
        for error in in_both_colours(plain, "read", ["a/1"]):
            assert "rediss://" in str(error)


def test_tls_with_a_certificate_of_the_clients_own(redis8, tmp_path):
    authority = Authority(tmp_path)
    certificate, key = authority.issue("client")
    with Proxy(redis8.port, authority.context(ask_clients=True)) as proxy:
        url = f"rediss://127.0.0.1:{proxy.port}{PATIENT}&ssl_ca_certs={authority.file}"
        with unguarded(f"{url}&ssl_certfile={certificate}&ssl_keyfile={key}") as store:
            store.write({"a/1": b"x"})
            assert asyncio.run(store.aread(["a/1"])) == [b"x"]
        in_both_colours(url, "read", ["a/1"])


def test_tls_asked_of_a_server_without_it(redis8):
    for error in in_both_colours(redis8.url(BRISK, scheme="rediss"), "read", ["a/1"]):
        assert "TLS" in str(error)


# URLs


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://host", {"nodes": (Node("host", 6379),)}),
        ("VALKEY://host:1/7", {"nodes": (Node("host", 1),), "database": 7}),
        ("redis://[::1]:7", {"nodes": (Node("::1", 7),)}),
        ("redis://u%3A:p%40%2F@host", {"user": "u:", "password": "p@/"}),
        ("redis://:p@host/", {"user": "", "password": "p"}),
        ("redis://u@host", {"user": "u", "password": ""}),
        ("redis+cluster://a,b:2", {"nodes": (Node("a", 6379), Node("b", 2)), "kind": "cluster"}),
        (
            "redis+sentinel://:p@a,b:2/my%20service/3",
            {
                "nodes": (Node("a", 26379, True), Node("b", 2, True)),
                "service": "my service",
                "database": 3,
                "password": "p",
            },
        ),
        ("rediss://host", {"tls": {"ssl_cert_reqs": "required", "ssl_check_hostname": True}}),
        ("redis://host", {"tls": None}),
        ("valkeys://h?ssl_cert_reqs=none", {"tls": {"ssl_cert_reqs": "none", "ssl_check_hostname": False}}),
    ],
)
def test_urls(url, expected):
    address = Address.of(Location.of(url))
    assert {name: getattr(address, name) for name in expected} == expected


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis:///0",
        "redis://host:0",
        "redis://host:99999",
        "redis://host:port",
        "redis://host/database",
        "redis://host/-1",
        "redis://host/1/2",
        "redis://a,b",
        "redis://a b",
        "redis://::1:7",
        "redis+cluster://a/1",
        "redis+sentinel://a",
        "redis+sentinel://a/",
        "redis+sentinel://a/s/x",
        "redis://u:secret@host:x",
        "redis://u:sec/ret@host:x",
        "redis://host?db=1",
        "redis://u:secret@host?colour=blue",
        "redis://u:secret@host?prefix=",
        "redis://u:secret@host?timeout=0",
        "redis://u:secret@host?lookup_timeout=soon",
        "redis://u:secret@host?lookup_timeout=inf",
        "rediss://u:secret@host?ssl_ca_certs=/there/is/no/such/file",
        "rediss://u:secret@host?ssl_cert_reqs=perhaps",
    ],
)
def test_urls_that_can_only_be_mistakes(url):
    with pytest.raises(InputError) as error:
        open_store(url)
    assert "secret" not in str(error.value)
    assert "ret@" not in str(error.value)


@given(st.text(min_size=1), st.text(), st.sampled_from(["redis://", "redis+cluster://", "x://", ""]))
def test_no_error_of_a_url_shows_a_password(password, rest, scheme):
    secret = f"<{password}>"
    try:
        open_store(f"{scheme}user:{secret}@{rest}").close()
    except (InputError, StoreError) as error:
        if "://" in scheme:
            assert secret not in str(error)


def test_neither_locations_nor_stores_show_a_password():
    url = "redis://user:secret@host:1/2?timeout=3"
    location = Location.of(url)
    assert location.shown == "redis://***@host:1/2?timeout=3"
    assert "secret" not in repr(location)
    assert "secret" not in repr(Address.of(location))
    assert "secret" not in repr(open_store(url).store)
    assert Location.of("sqlite:///data/a@b.db").shown == "sqlite:///data/a@b.db"
    assert Location.of("x:///y?far=redis://u:secret@h").shown == "x:///y?far=redis://***@h"


def test_what_is_not_installed_says_what_to_install(monkeypatch):
    for name in ("askonce.stores.redis", "redis"):
        monkeypatch.delitem(__import__("sys").modules, name, raising=False)
    monkeypatch.setitem(__import__("sys").modules, "redis", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'askonce\[redis\]'"):
        open_store("redis://host")
