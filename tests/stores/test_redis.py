import math
import sys
import time

import pytest

from askonce import MissingExtraError, open_store
from askonce.errors import StoreRefusedError
from askonce.testing import Opener, Raw, StoreTests
from tests.servers.redis import SERVERS, give_redis
from tests.stores.redis_asking import PATIENT, unguarded


@pytest.fixture(params=SERVERS)
def server(request, give_redis):
    return give_redis(request.param)


@pytest.fixture
def redis8(give_redis):
    return give_redis("redis8")


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


def test_nothing_outside_the_prefix_is_touched(server):
    foreign = {f"other:{number}": b"x" for number in range(5)} | {
        "askonce": b"x",
        "askonc:e/1": b"x",
    }
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


def test_the_server_gives_up_what_has_expired_and_nothing_else(server):
    now = time.time()
    ends = {
        "never": math.inf,
        "far": 1e300,
        "soon": now + 1000.5,
        "past": now - 5,
        "ago": 0.0,
        "bc": -9.0,
    }
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


def test_what_is_not_installed_says_what_to_install(monkeypatch):
    for name in ("askonce.stores.redis", "redis"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'askonce\[redis\]'"):
        open_store("redis://host")
