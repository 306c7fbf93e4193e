"""doctor, on real stores."""

import contextlib
import json
import shutil
import sqlite3
import time
from collections import namedtuple
from pathlib import Path

import pytest

from askonce import StoreError, open_store
from askonce.core.finding import Finding
from askonce.doctor import examine, secretless
from askonce.stores import diagnosis
from askonce.stores.diagnosis import clock_of, disk_of
from askonce.stores.guarded import Guarded
from askonce.stores.memory import MemoryStore
from askonce.stores.sqlite_diagnosis import findings_of
from tests.servers import redis as redis_servers
from tests.servers.postgres import postgres, table
from tests.servers.s3 import S3Server

__all__ = ["postgres", "table"]

LOCAL = ["sqlite:///store", "lmdb:///store", "file:///store"]
PATIENT = "lookup_timeout=30&timeout=60"


@pytest.fixture(scope="module")
def redis():
    server = redis_servers.RedisServer(redis_servers.PROGRAMS["redis8"])
    try:
        server.start()
        yield server
    finally:
        server.remove()


def states(findings):
    return {one.check: one.state for one in findings}


def told(askonce, url, code=0):
    result = askonce("doctor", url, "--json")
    assert result.code == code, result
    report = json.loads(result.out)
    assert report["well"] == (code == 0)
    return {one["check"]: one for one in report["findings"]}


@pytest.mark.parametrize("url", LOCAL)
def test_a_store_that_is_well(askonce, url):
    with open_store(url) as store:
        store.write({"a/1": b"one"})
    found = told(askonce, url)
    assert {"reach", "latency", "rights", "leases", "disk"} <= found.keys()
    assert {one["state"] for one in found.values()} == {"fine"}
    with open_store(url) as store:
        assert list(store.keys()) == ["a/1"]
    result = askonce("doctor", url)
    assert result.out.startswith(f"{url}\nfine      reach ")
    assert "->" not in result.out


def test_no_store(askonce, tmp_path):
    assert "there is no store at" in askonce("doctor", "sqlite:///store.db").error
    assert "not a store URL" in askonce("doctor", "store.db").error
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_store(askonce):
    Path("store.db").write_text("something else" * 1000)
    found = told(askonce, "sqlite:///store.db", code=1)
    assert list(found) == ["reach"]
    assert "not an SQLite database" in found["reach"]["told"]


def test_sqlite_full_of_gaps(askonce):
    with open_store("sqlite:///store.db") as store:
        store.write({f"a/{number}": bytes(2**20) for number in range(70)})
        store.clear("")
    result = askonce("doctor", "sqlite:///store.db")
    assert result.code == 0
    assert "doubtful  space" in result.out
    assert "-> if that is too much, askonce vacuum gives it back" in result.out


def test_sqlite_larger_than_what_it_reads_fast(tmp_path):
    with open_store(f"sqlite:///{tmp_path}/store.db") as store:
        store.write({f"a/{number}": bytes(2**20) for number in range(4)})
    with contextlib.closing(sqlite3.connect(tmp_path / "store.db")) as connection:
        for mapped, said in ((2**21, "of which SQLite reads 2 MiB fast"), (2**30, ""), (0, "")):
            connection.execute(f"PRAGMA mmap_size = {mapped}")
            told = {one.check: one for one in findings_of(connection)}
            if said:
                assert said in told["size"].told
                assert told["size"].state == "doubtful"
                assert "lmdb:///" in told["size"].advice
            else:
                assert "size" not in told


def test_sqlite_where_there_can_be_no_log():
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        assert states(findings_of(connection))["journal"] == "wrong"


def test_postgres(askonce, postgres, table):
    found = told(askonce, postgres.url(table=table, lookup_timeout=30, timeout=60, unlogged=1))
    assert {one["state"] for one in found.values()} == {"fine"}
    assert "Postgres 18" in found["version"]["told"]
    assert {"clock", "role", "connections", "encryption", "table"} <= found.keys()
    assert postgres.execute(f"SELECT count(*) FROM {table}") == [(0,)]


def test_postgres_without_rights(askonce, postgres, table):
    postgres.execute("DROP ROLE IF EXISTS reader", "CREATE ROLE reader LOGIN")
    told(askonce, postgres.url(table=table, lookup_timeout=30))
    postgres.execute(f"GRANT SELECT ON {table}, {table}_leases TO reader")
    found = told(askonce, postgres.url(user="reader", table=table, lookup_timeout=30), code=1)
    assert found["reach"]["state"] == "fine"
    assert "GRANT SELECT, INSERT, UPDATE, DELETE" in found["write"]["told"]
    assert found["leases"]["state"] == "wrong"
    postgres.execute(f"DROP OWNED BY reader", "DROP ROLE reader")


def test_postgres_that_takes_no_writes(askonce, postgres, table):
    told(askonce, postgres.url(table=table, lookup_timeout=30))
    url = postgres.url(
        table=table, lookup_timeout=30, options="-c%20default_transaction_read_only%3Don"
    )
    found = told(askonce, url, code=1)
    assert "read-only" in found["write"]["told"]
    assert found["role"]["state"] == "wrong"


def test_redis(askonce, redis):
    found = told(askonce, redis.url(f"?{PATIENT}"))
    assert found["memory"]["state"] == "doubtful"
    with redis.client() as client:
        client.config_set("maxmemory", "64mb")
        assert told(askonce, redis.url(f"?{PATIENT}"))["eviction"]["state"] == "doubtful"
        client.config_set("maxmemory-policy", "volatile-lru")
        found = told(askonce, redis.url(f"?{PATIENT}"))["eviction"]
        assert "gives up only what has an end" in found["told"]
        assert "allkeys-lfu" in found["advice"]
        client.config_set("maxmemory-policy", "allkeys-lfu")
        found = told(askonce, redis.url(f"?{PATIENT}"))
        assert {one["state"] for one in found.values()} == {"fine"}
        assert found["version"]["told"].startswith("Redis 8")
        assert "agrees" in found["clock"]["told"]
        assert client.keys("*") == []


def test_redis_full_without_giving_anything_up(askonce, redis):
    with redis.client() as client:
        client.config_set("maxmemory", "1")
        client.config_set("maxmemory-policy", "noeviction")
        try:
            found = told(askonce, redis.url(f"?{PATIENT}"), code=1)
        finally:
            client.config_set("maxmemory", "0")
    assert "raise maxmemory" in found["write"]["told"]
    assert found["eviction"]["state"] == "wrong"


def test_a_bucket(askonce, monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "something")
    server = S3Server()
    try:
        server.make_bucket("answers")
        found = told(askonce, server.url("answers", lookup_timeout="30", timeout="60"))
        assert {one["state"] for one in found.values()} == {"fine"}
        assert "agrees" in found["clock"]["told"]
        missing = told(askonce, server.url("nothing", lookup_timeout="30"), code=1)
        assert "create the bucket first" in missing["reach"]["told"]
    finally:
        server.stop()
    (tmp_path / "folder").mkdir()
    assert told(askonce, "file+object:///folder")["disk"]["state"] == "fine"


def test_no_password_is_shown(askonce, redis, postgres):
    secret = "gehe%40im"
    with redis.client() as client:
        client.execute_command(
            *"ACL SETUSER cache on >gehe@im ~askonce:* +@read +@write +@scripting".split(),
            "+@connection",
        )
    for url in (
        redis.url(f"?{PATIENT}", user=f"cache:{secret}"),
        redis.url(f"?{PATIENT}", user="cache:gehe%40imer"),
        redis.url(f"?{PATIENT}&prefix=", user=f"cache:{secret}"),
        postgres.url(user=f"locked:{secret}"),
        postgres.url(user="locked", password=secret),
        f"redis://cache:{secret}@127.0.0.1:1/0",
        f"redis://cache:{secret}@127.0.0.1:1/0?unknown=option",
        f"elsewhere://cache:{secret}@host",
    ):
        result = askonce("doctor", url)
        assert "gehe" not in result.out + result.err, url
    found = told(askonce, redis.url(f"?{PATIENT}", user=f"cache:{secret}"))
    assert found["version"]["state"] == "doubtful"
    assert "+info" in found["version"]["advice"]


def test_secrets_are_taken_out_of_everything():
    url = "tiered+sqlite:///near.db?far=redis://me:pa%2Fss@host/0%3Fpassword%3Dother&api_key=third"
    findings = [Finding("reach", "pa/ss, pa%2Fss and other failed", "wrong", "change third")]
    shown, (found,) = secretless(url, findings)
    assert shown == "tiered+sqlite:///near.db"
    assert (found.told, found.advice) == ("***, *** and *** failed", "change ***")


class Odd(MemoryStore):
    """Fail at one verb only."""

    def __init__(self, verb):
        super().__init__()
        self.verb = verb

    def write(self, entries, *, expires=float("inf")):
        if self.verb == "write":
            raise StoreError("no room")
        if self.verb != "forget":
            super().write(entries, expires=expires)

    def delete(self, keys):
        if self.verb == "delete":
            raise StoreError("no deleting")
        if self.verb != "keep":
            super().delete(keys)

    def diagnose(self):
        if self.verb == "diagnose":
            raise StoreError("no looking")
        return []


@pytest.mark.parametrize(
    ("verb", "check"),
    [("write", "write"), ("forget", "write"), ("delete", "delete"), ("keep", "delete"),
     ("diagnose", "settings"), ("nothing", None)],
)  # fmt: skip
def test_what_goes_wrong_is_told(verb, check):
    findings = examine(lambda: Odd(verb))
    assert [one.check for one in findings if one.state == "wrong"] == ([check] if check else [])


def test_a_slow_store_is_doubtful():
    class Slow(MemoryStore):
        def read(self, keys):
            time.sleep(0.002)
            return super().read(keys)

    findings = examine(lambda: Guarded(Slow(), lookup_timeout=0.003))
    assert states(findings)["latency"] == "doubtful"


def test_clocks(monkeypatch):
    assert clock_of(time.time).state == "fine"
    assert clock_of(lambda: time.time() + 10).state == "doubtful"
    found = clock_of(lambda: time.time() - 4000)
    assert found.state == "wrong"
    assert "behind ours" in found.told


@pytest.mark.parametrize(("free", "state"), [(1e6, "wrong"), (5e8, "doubtful"), (5e9, "fine")])
def test_a_full_disk(monkeypatch, tmp_path, free, state):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1e12, 0, free))
    assert [one.state for one in disk_of(tmp_path / "not there", needs_locks=True)] == [state]


@pytest.mark.parametrize(("needs_locks", "state"), [(True, "wrong"), (False, "doubtful")])
def test_a_network_file_system(monkeypatch, tmp_path, needs_locks, state):
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "1 0 0:1 / / rw - ext4 /dev/sda rw\n"
        f"2 1 0:2 / {tmp_path.parent} rw shared:1 - nfs4 host:/x rw\n"
    )
    monkeypatch.setattr(diagnosis, "_MOUNTS", mounts)
    monkeypatch.setattr("sys.platform", "linux")
    *_, found = disk_of(tmp_path, needs_locks=needs_locks)
    assert (found.check, found.state) == ("file system", state)
    assert "(nfs4)" in found.told
