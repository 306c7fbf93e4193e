"""A Redis that is a cluster, watched by Sentinel, or behind TLS."""

import asyncio
import contextlib

import pytest
import redis

from askonce import StoreError
from tests.servers.ports import free_port
from tests.servers.proxy import Authority, Proxy
from tests.servers.redis import Watched, give_redis
from tests.stores.redis_asking import BRISK, PATIENT, each_verb, in_both_colours, unguarded


@pytest.fixture
def redis8(give_redis):
    return give_redis("redis8")


@pytest.fixture
def cluster(give_redis):
    return give_redis("cluster")


def test_a_node_of_a_cluster_alone_says_what_to_write(cluster):
    url = cluster.nodes[0].url(PATIENT)
    keys = [f"a/{number}" for number in range(20)]
    for error in in_both_colours(url, "write", dict.fromkeys(keys, b"x")):
        assert "redis+cluster://" in str(error)
    for error in in_both_colours(url, "read", keys):
        assert type(error) is StoreError


def test_a_server_that_is_no_cluster_says_what_to_write(redis8):
    each_verb(redis8.url(PATIENT, scheme="redis+cluster"), "write redis://")


def test_any_node_leads_to_the_others(cluster):
    nobody = free_port()
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
        plain = f"redis://:secret@127.0.0.1:{proxy.port}{PATIENT}"
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
