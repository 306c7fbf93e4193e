import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from askonce import InputError, StoreError, open_store
from askonce.stores import postgres_flows
from askonce.stores.postgres import PostgresStore
from askonce.stores.postgres_link import Limits
from askonce.testing import Opener, Raw, StoreTests
from tests.alone import Gate, alone, fork, join
from tests.servers.poolers import pooler, turnstile
from tests.servers.postgres import PATIENT, PostgresServer, each_postgres, postgres, table
from tests.stores import forks

__all__ = ["each_postgres", "pooler", "postgres", "table"]


def rows(server: PostgresServer, table: str) -> dict[str, bytes]:
    return dict(server.execute(f"SELECT key, value FROM {table}"))


class TestPostgresStore(StoreTests):
    @pytest.fixture
    def opener(self, each_postgres: PostgresServer, table: str) -> Opener:
        return lambda: PostgresStore(each_postgres.url(), table=table, **PATIENT)

    @pytest.fixture
    def raw(self, each_postgres: PostgresServer, table: str) -> Raw:
        return lambda: rows(each_postgres, table)


class TestBehindAPooler(StoreTests):
    @pytest.fixture
    def opener(self, pooler: int, table: str) -> Opener:
        url = f"postgresql://postgres@127.0.0.1:{pooler}/postgres"
        return lambda: PostgresStore(url, table=table, unlogged=True, **PATIENT)

    @pytest.fixture
    def raw(self, postgres: PostgresServer, table: str) -> Raw:
        return lambda: rows(postgres, table)


@pytest.fixture
def url(postgres: PostgresServer, table: str) -> str:
    return postgres.url(table=table, lookup_timeout=30, timeout=60)


@pytest.fixture
def store(postgres: PostgresServer, table: str) -> Iterator[PostgresStore]:
    with PostgresStore(postgres.url(), table=table, **PATIENT) as store:
        yield store


def test_a_turnstile_forgets_what_a_session_knows(postgres):
    with (
        turnstile(postgres) as port,
        psycopg.connect(f"postgresql://postgres@127.0.0.1:{port}/postgres", autocommit=True) as one,
    ):
        one.execute("SET application_name = 'remembered'")
        assert one.execute("SHOW application_name").fetchone() == ("",)


# Many at once


def race_to_open(url: str) -> None:
    gate = Gate()

    def work(number: int) -> None:
        gate.wait()
        with open_store(url) as store:
            store.write({f"a/{number}": b"x"})
            assert store.read([f"a/{number}"]) == [b"x"]

    children = [fork(lambda number=number: work(number)) for number in range(8)]
    gate.open()
    join(*children)
    with open_store(url) as store:
        assert len(list(store.keys())) == 8


def test_eight_processes_race_to_open_it_first(url):
    alone(race_to_open, url)


@pytest.mark.parametrize(
    "scenario", [forks.use_in_both, forks.outlive_the_parent, forks.fork_amid_threads]
)
def test_survives_a_fork(url, scenario):
    alone(scenario, url)


def test_fifty_threads_share_a_few_connections(store, postgres, table):
    with ThreadPoolExecutor(50) as pool:
        start = threading.Barrier(50)

        def work(thread):
            start.wait()
            for turn in range(5):
                store.write({f"a/{thread}": bytes([turn]), "a/shared": bytes([thread])})
                assert store.read([f"a/{thread}"]) == [bytes([turn])]

        list(pool.map(work, range(50)))
    assert len(list(store.keys())) == 51
    assert sessions(postgres, table) <= 8


def sessions(server: PostgresServer, table: str) -> int:
    """Count the server's sessions whose last statement was about a table."""
    statement = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%' || '{}' || '\"%'"
    return server.execute(statement.format(table))[0][0]


def test_event_loops_share_connections_one_after_the_other_and_at_once(store, postgres, table):
    async def use(name: str) -> list[bytes | None]:
        await asyncio.gather(*(store.awrite({f"{name}/{part}": b"x"}) for part in range(20)))
        return await store.aread([f"{name}/{part}" for part in range(20)])

    for turn in range(3):
        assert asyncio.run(use(f"turn-{turn}")) == [b"x"] * 20
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda loop: asyncio.run(use(f"loop-{loop}")), range(4)))
    assert results == [[b"x"] * 20] * 4
    assert store.read(["turn-0/0", "loop-3/19"]) == [b"x", b"x"]
    assert sessions(postgres, table) <= 8


def test_writers_of_the_same_keys_never_block_each_other_for_good(url):
    keys = [f"a/{number:03d}" for number in range(300)]

    def work(thread: int) -> None:
        with open_store(url) as store:
            for turn in range(6):
                mine = keys if (thread + turn) % 2 else list(reversed(keys))
                store.write(dict.fromkeys(mine, bytes([thread])), expires=time.time() + turn - 3)
                store.delete(mine[::3])
                store.prune(time.time())
                store.clear("a/1")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))


def test_a_store_forgotten_unclosed_lets_its_connections_go(url):
    store = open_store(url)
    store.write({"a/1": b"x"})
    (link,) = store.store._server._links._idle
    for thread in threading.enumerate():
        if thread.name == "askonce-postgres":
            thread.join()
    del store
    assert link._connection.closed


def test_says_that_it_is_closed(store):
    store.read(["a/1"])
    store.close()
    for use in (
        lambda: store.read(["a/1"]),
        lambda: store.write({"a/1": b"x"}),
        lambda: list(store.keys()),
        lambda: asyncio.run(store.aread(["a/1"])),
        lambda: store.leases.claim(["a/1"]),
    ):
        with pytest.raises(StoreError, match="closed"):
            use()


# Tables and URLs


def test_where_the_tables_are(postgres, store, table):
    postgres.execute(f"CREATE SCHEMA of_{table}")
    with PostgresStore(
        postgres.url(), table=f"of_{table}.{table}", unlogged=True, **PATIENT
    ) as another:
        another.write({"a/1": b"another"})
        store.write({"a/1": b"x"})
        assert another.read(["a/1"]) == [b"another"]
        assert another.clear("") == 1
    assert store.read(["a/1"]) == [b"x"]
    kinds = postgres.execute(
        "SELECT n.nspname, relpersistence FROM pg_class c JOIN pg_namespace n ON "
        f"n.oid = relnamespace WHERE relname = '{table}'"
    )
    assert sorted(kinds) == [(f"of_{table}", "u"), ("public", "p")]


def test_opens_from_a_url(postgres, table):
    for scheme in ("postgres", "postgresql", "PostgreSQL"):
        url = postgres.url(
            table=table,
            unlogged=1,
            lookup_timeout=30,
            timeout=60,
            connections=2,
            application_name=f"a%20{scheme}",  # a session may outlive its client for a moment
        )
        with open_store(scheme + url.removeprefix("postgresql")) as store:
            store.write({"a/1": b"x"})
            assert store.store._lookup == Limits(30.0, 60.0)
            assert (store.lookup_timeout, store.timeout) == (30.0, 60.0)
            assert postgres.execute(
                f"SELECT count(*) FROM pg_stat_activity WHERE application_name = 'a {scheme}'"
            ) == [(1,)]


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("postgresql://me:secret@host/db?max_bytes=5", "max_bytes.*ours are connections"),
        ("postgresql://me:secret@host/db?timeout=soon", "seconds above 0"),
        ("postgresql://me:secret@host/db?timeout=0", "seconds above 0"),
        ("postgresql://me:secret@host/db?lookup_timeout=nan", "seconds above 0"),
        ("postgresql://me:secret@host/db?connections=0", "above 0"),
        ("postgresql://me:secret@host/db?unlogged=yes", "write 1 or 0"),
        ("postgresql://me:secret@host/db?table=drop+table", "not a name for the table"),
        ("postgresql://me:secret@host:port/db", "not a port"),
        ("postgresql://me:secret@host:70000/db", "not a port"),
        ("postgresql://me:secret@[::1/db", "write postgresql://"),
        ("postgresql://me:secret%zz@host/db", "write postgresql://"),
    ],
)
def test_what_can_only_be_a_mistake_in_the_url_is_an_error_at_once(url, advice):
    with pytest.raises(InputError, match=advice) as raised:
        open_store(url)
    assert "secret" not in str(raised.value)


@given(prefix=st.text(max_size=3), key=st.text(max_size=5), begins=st.booleans())
@example(prefix="\ud7ff", key="\ue000", begins=False)
@example(prefix="a\U0010ffff", key="b", begins=False)
@example(prefix="\U0010ffff", key="", begins=True)
def test_a_range_holds_what_begins_with_a_prefix_and_nothing_else(prefix, key, begins):
    key = prefix + key if begins else key
    end = postgres_flows._end(prefix)
    assert key.startswith(prefix) == (prefix <= key and (end is None or key < end))
