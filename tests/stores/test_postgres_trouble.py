"""A Postgres store in trouble: deadlines, other servers at the port, rights, altered tables."""

import asyncio
import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from askonce import StoreError
from askonce.errors import StoreRefusedError
from askonce.stores.postgres import PostgresStore
from askonce.stores.postgres_link import Limits, Patience, Statement
from tests.servers.ports import free_port
from tests.servers.postgres import PATIENT, PostgresServer, binaries, postgres, running, table

__all__ = ["postgres", "table"]


@pytest.fixture
def store(postgres: PostgresServer, table: str) -> Iterator[PostgresStore]:
    with PostgresStore(postgres.url(), table=table, **PATIENT) as store:
        yield store


# Deadlines


def test_a_stopped_server_costs_no_more_than_the_deadline(postgres, table):
    with PostgresStore(postgres.url(), table=table, timeout=0.2) as store:
        postgres_is_used_to(store)
        with postgres.paused():
            for use in (
                lambda: store.read(["a/1"]),
                lambda: store.write({"a/1": b"lost"}),
                lambda: store.leases.claim(["a/1"]),
                lambda: list(store.keys()),
                lambda: asyncio.run(store.aread(["a/1"])),
                lambda: asyncio.run(store.awrite({"a/1": b"lost"})),
            ):
                with pytest.raises(StoreError, match=r"within 0\.(05|2) s"):
                    use()
    with PostgresStore(postgres.url(), table=table, **PATIENT) as store:
        assert store.read(["a/2", "a/1"])[0] == b"2"


def postgres_is_used_to(store: PostgresStore) -> None:
    """Use a store until the server answers in time: tables and caches are there then."""
    for _ in range(1000):
        with contextlib.suppress(StoreError):
            store.write({"a/1": b"1", "a/2": b"2"})
            assert store.read(["a/1"]) == [b"1"]
            return
    pytest.fail("the server never answered in time")


def test_no_answer_is_ever_taken_for_that_of_another_question(postgres, table):
    with PostgresStore(postgres.url(), table=table, timeout=30) as store:
        store.write({"a/1": b"1", "a/2": b"2"})
        with postgres.paused(), pytest.raises(StoreError):
            store.read(["a/1"])
        store._flows._lookup = Limits(30, 30)
        assert store.read(["a/2"]) == [b"2"]
        with postgres.paused():
            store._flows._lookup = Limits(0.05, 30)
            with pytest.raises(StoreError):
                asyncio.run(store.aread(["a/1"]))
        store._flows._lookup = Limits(30, 30)
        assert asyncio.run(store.aread(["a/2"])) == [b"2"]


def test_a_server_that_was_stopped_from_the_beginning(postgres, table):
    with PostgresStore(postgres.url(), table=table, timeout=30) as store:
        with postgres.paused():
            with pytest.raises(StoreError, match=r"no connection within 0\.05 s; check"):
                store.read(["a/1"])
            with pytest.raises(StoreError, match=r"no connection within 0\.05 s; check"):
                asyncio.run(store.aread(["a/1"]))
        store.write({"a/1": b"x"})


@pytest.mark.parametrize(
    ("sql", "limits"),
    [
        ("SELECT pg_sleep(60)", Limits(0.05, 60)),
        (
            "SELECT repeat('x', 9000), pg_sleep(0.001) FROM generate_series(1, 60000)",
            Limits(60, 0.3),
        ),
    ],
    ids=["silent", "slow"],
)
def test_a_statement_has_an_end_whatever_comes(store, sql, limits):
    store.read(["a/1"])
    statement = Statement(sql, (), limits)
    with pytest.raises(StoreError, match="no answer within"):
        store._server.ask(statement)
    with pytest.raises(StoreError, match="no answer within"):
        asyncio.run(store._server.aask(statement))
    assert store.read(["a/1"]) == [None]


def test_a_task_can_be_cancelled_while_the_server_says_nothing(store, postgres):
    store.write({"a/1": b"x"})

    async def give_up() -> None:
        async with asyncio.timeout(0.05):
            await store.aread(["a/1"])

    with postgres.paused(), pytest.raises(TimeoutError):
        asyncio.run(give_up())
    assert store.read(["a/1"]) == [b"x"]


def test_says_when_all_connections_are_busy(postgres, table):
    with PostgresStore(postgres.url(), table=table, timeout=30, connections=1) as store:
        store.write({"a/1": b"x"})
        links = store._server._links
        link = links.take(Patience(Limits(30, 30)))
        for use in (store.read, lambda keys: asyncio.run(store.aread(keys))):
            with pytest.raises(StoreRefusedError, match="none of 1 connections became free"):
                use(["a/1"])
        links.give(link)
        store.write({"a/1": b"y"})


# Trouble


def test_opening_asks_nothing_of_a_server_and_a_missing_one_is_an_error_at_use(table, caplog):
    with PostgresStore(f"postgresql://me:secret@127.0.0.1:{free_port()}/x", table=table) as store:
        for use in (
            lambda: store.read(["a/1"]),
            lambda: asyncio.run(store.awrite({"a/1": b"x"})),
            lambda: store.leases.claim(["a/1"]),
        ):
            with pytest.raises(StoreError, match=r"refused|no connection within") as raised:
                use()
            assert "secret" not in str(raised.value)
    assert not [record for record in caplog.records if record.name.startswith("psycopg")]


def test_a_server_that_restarts_is_found_again(table):
    with running(binaries()["18"]) as server:
        with PostgresStore(server.url(), table=table, **PATIENT) as store:
            store.write({"a/1": b"x"})
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(store.read, [["a/1"]] * 40))
            server.stop()
            for use in (store.read, lambda keys: asyncio.run(store.aread(keys))):
                with pytest.raises(StoreError):
                    use(["a/1"])
            server.start()
            assert store.read(["a/1"]) == [b"x"]
            server.stop()
            server.start()
            assert asyncio.run(store.aread(["a/1"])) == [b"x"]


@pytest.mark.parametrize(
    ("greeting", "advice"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "no Postgres server"),
        (b"-ERR unknown command\r\n", "no Postgres server"),
        (b"", "no connection within|check host and port|lost|closed"),
    ],
    ids=["http", "redis", "silent"],
)
def test_another_kind_of_server_at_the_port(table, greeting, advice):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def answer() -> None:
            client, _ = server.accept()
            with client:
                client.recv(100)
                if greeting:
                    client.sendall(greeting)
                    client.recv(100)

        threading.Thread(target=answer, daemon=True).start()
        url = f"postgresql://127.0.0.1:{port}/x"
        with PostgresStore(url, table=table, timeout=5 if greeting else 0.1) as store:
            with pytest.raises(StoreError, match=advice):
                store.write({"a/1": b"x"})


def test_a_wrong_password(postgres, table):
    postgres.execute("DROP ROLE IF EXISTS locked", "CREATE ROLE locked LOGIN PASSWORD 'right'")
    for password, advice in ((":wrong-one", "check the user and the password"), ("", "PGPASSWORD")):
        url = postgres.url(user=f"locked{password}")
        with PostgresStore(url, table=table, **PATIENT) as store:
            with pytest.raises(StoreError, match=advice) as raised:
                store.read(["a/1"])
            assert "wrong-one" not in str(raised.value)
    postgres.execute("GRANT CREATE ON SCHEMA public TO locked")
    with PostgresStore(postgres.url(user="locked:right"), table=table, **PATIENT) as store:
        store.write({"a/1": b"x"})
        assert store.read(["a/1"]) == [b"x"]


def test_a_database_that_is_not_there(postgres, table):
    with PostgresStore(postgres.url(database="nowhere"), table=table, **PATIENT) as store:
        with pytest.raises(StoreError, match="create the database"):
            store.read(["a/1"])


def test_without_rights_it_says_what_to_grant(postgres, table):
    user = f"user_{table}"
    postgres.execute(f"CREATE ROLE {user} LOGIN")
    with PostgresStore(postgres.url(user=user), table=table, **PATIENT) as store:
        with pytest.raises(
            StoreError, match='cannot be made.*GRANT USAGE, CREATE ON SCHEMA "public"'
        ):
            store.read(["a/1"])
        with PostgresStore(postgres.url(), table=table, **PATIENT) as of_the_admin:
            of_the_admin.write({"a/1": b"x"})
        for use in (lambda: store.read(["a/1"]), lambda: asyncio.run(store.aread(["a/1"]))):
            with pytest.raises(
                StoreRefusedError, match="GRANT SELECT, INSERT, UPDATE, DELETE ON"
            ) as raised:
                use()
        postgres.execute(re.search("GRANT .*", str(raised.value))[0])
        assert store.read(["a/1"]) == [b"x"]
        store.write({"a/1": b"y"})
        store.prune(time.time())
        store.vacuum()
        assert store.leases.claim(["a/1"]) == ["a/1"]
        store.leases.release(["a/1"])


def test_a_read_only_server_can_be_read(postgres, store, table):
    store.write({"a/1": b"x"})
    user = f"reader_{table}"
    postgres.execute(
        f"CREATE ROLE {user} LOGIN SUPERUSER",
        f"ALTER ROLE {user} SET default_transaction_read_only = on",
    )
    with PostgresStore(postgres.url(user=user), table=table, **PATIENT) as reader:
        assert reader.read(["a/1"]) == [b"x"]
        for use in (lambda: reader.write({"a/1": b"y"}), lambda: reader.leases.claim(["a/1"])):
            with pytest.raises(StoreRefusedError, match="read-only replica.*primary"):
                use()
    with PostgresStore(postgres.url(user=user), table=f"{table}_new", **PATIENT) as reader:
        with pytest.raises(StoreError, match="read-only replica.*primary"):
            reader.read(["a/1"])


ALTERATIONS = {
    "ALTER TABLE {0} RENAME COLUMN value TO content": "'value' is missing",
    "ALTER TABLE {0} ALTER COLUMN key TYPE text": "'key' is text, not text COLLATE",
    "DELETE FROM {0}; ALTER TABLE {0} ADD COLUMN owner text NOT NULL": "'owner', which is not ours",
    "ALTER TABLE {0} DROP CONSTRAINT {0}_pkey": "no unique index",
    "ALTER TABLE {0}_leases DROP COLUMN until": "'until' is missing",
    "COMMENT ON TABLE {0} IS 'askonce: format 2'": "format 2, which a newer askonce made",
    "ALTER TABLE {0} RENAME TO {0}_old; CREATE VIEW {0} AS SELECT * FROM {0}_old": "it is no table",
}


@pytest.mark.parametrize("alteration", ALTERATIONS)
def test_an_altered_table_is_refused_and_left_alone(postgres, store, table, alteration):
    store.write({"a/1": b"x"})
    postgres.execute(*alteration.format(table).split(";"))
    with PostgresStore(postgres.url(), table=table, **PATIENT) as another:
        for use in (lambda: another.read(["a/1"]), lambda: another.write({"a/1": b"y"})):
            with pytest.raises(StoreError, match=ALTERATIONS[alteration]):
                use()


def test_a_column_more_does_no_harm(postgres, store, table):
    store.write({"a/1": b"x"})
    postgres.execute(f"ALTER TABLE {table} ADD COLUMN written timestamptz NOT NULL DEFAULT now()")
    with PostgresStore(postgres.url(), table=table, **PATIENT) as another:
        another.write({"a/1": b"y"})
    assert store.read(["a/1"]) == [b"y"]


def test_a_table_altered_under_a_running_store(postgres, store, table):
    store.write({"a/1": b"x"})
    postgres.execute(f"ALTER TABLE {table} RENAME COLUMN value TO content")
    with pytest.raises(StoreError):
        store.read(["a/1"])
    with pytest.raises(StoreError, match="'value' is missing"):
        store.read(["a/1"])
    postgres.execute(f"ALTER TABLE {table} RENAME COLUMN content TO value")
    assert store.read(["a/1"]) == [b"x"]


def test_a_table_dropped_under_a_running_store_is_made_again(postgres, store, table):
    store.write({"a/1": b"x"})
    postgres.execute(f"DROP TABLE {table}")
    with pytest.raises(StoreError, match="does not exist"):
        store.read(["a/1"])
    assert store.read(["a/1"]) == [None]
    store.write({"a/1": b"y"})


def test_the_table_of_somebody_else_is_left_alone(postgres, table):
    postgres.execute(f"CREATE TABLE {table} (key text PRIMARY KEY, value text)")
    postgres.execute(f"INSERT INTO {table} VALUES ('k', 'theirs')")
    with PostgresStore(postgres.url(), table=table, **PATIENT) as store:
        with pytest.raises(StoreError, match=r"not one that askonce made.*Choose another"):
            store.write({"k": b"ours"})
    assert postgres.execute(f"SELECT * FROM {table}") == [("k", "theirs")]


def test_keys_that_it_cannot_hold_are_errors_of_ours(store):
    store.write({"a/1": b"x"})
    for key in ("a/\ud800", "a/\0"):
        for use in (lambda: store.read([key]), lambda: asyncio.run(store.awrite({key: b"x"}))):
            with pytest.raises(StoreRefusedError):
                use()
    assert list(store.keys()) == ["a/1"]
