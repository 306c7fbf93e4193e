import asyncio
import itertools
import os
import pathlib
import threading

import pytest
from askonce import InputError, StoreError, open_store
from askonce.errors import StoreUnavailableError
from askonce.stores import Location
from askonce.stores.objects import ObjectStore
from askonce.stores.objects_url import engine_of
from tests.alone import alone
from tests.servers.s3 import S3Server
from tests.stores import disks
from tests.stores.objects import PATIENT, in_folder, opened

_numbers = itertools.count()


@pytest.fixture
def bucket(s3: S3Server) -> str:
    return s3.make_bucket(f"troubled-{next(_numbers)}")


@pytest.fixture
def folder_url(tmp_path: pathlib.Path) -> str:
    return in_folder(tmp_path / "objects")


def test_a_bucket_that_is_not_there(s3):
    for use in VERBS.values():
        with opened(s3.url("no-such-bucket", **PATIENT)) as store:
            with pytest.raises(StoreError, match=r"s3://no-such-bucket.*create the bucket"):
                use(store)


VERBS = {
    "read": lambda store: store.read(["a/1"]),
    "write": lambda store: store.write({"a/1": b"x"}),
    "delete": lambda store: store.delete(["a/1"]),
    "keys": lambda store: list(store.keys()),
    "clear": lambda store: store.clear(""),
    "size": lambda store: store.size(),
    "prune": lambda store: store.prune(0.0),
    "vacuum": lambda store: store.vacuum(),
    "claim": lambda store: store.leases.claim(["a"]),
    "aread": lambda store: asyncio.run(store.aread(["a/1"])),
    "awrite": lambda store: asyncio.run(store.awrite({"a/1": b"x"})),
}


def test_credentials_that_are_wrong(s3, bucket):
    url = s3.url(bucket, **PATIENT)
    assert s3.ask("POST", "/moto-api/reset-auth", b"0")[0] == 200
    try:
        for use in VERBS.values():
            with opened(url) as store:
                with pytest.raises(StoreError, match="credentials") as caught:
                    use(store)
                assert "secret" not in str(caught.value)
                assert "somebody" not in str(caught.value)
    finally:
        s3.ask("POST", "/moto-api/reset-auth", b"inf")


def test_a_server_that_is_not_there(s3):
    url = s3.url("bucket").replace(str(s3.port), "1")
    for use in VERBS.values():
        with opened(url) as store, pytest.raises(StoreError, match=r"s3://bucket"):
            use(store)
    with open_store(url) as store:
        with pytest.raises(StoreError, match="can be reached"):
            store.read(["a/1"])
        with pytest.raises(StoreUnavailableError):
            store.read(["a/1"])


def test_a_server_that_is_silent(s3, bucket):
    url = s3.url(bucket, lookup_timeout="0.1", timeout="0.2")
    with open_store(s3.url(bucket, **PATIENT)) as store:
        store.write({"a/1": b"x"})
    with s3.paused():
        for use in VERBS.values():
            with opened(url) as store, pytest.raises(StoreError, match=r"0\.[12] seconds"):
                use(store)
    with open_store(s3.url(bucket, **PATIENT)) as store:
        assert store.read(["a/1"]) == [b"x"]


def read_but_not_write(url: str) -> None:
    with open_store(url) as store:
        assert store.read(["a/1"]) == [b"x"]
        with pytest.raises(StoreError, match="ermission denied"):
            store.write({"a/1": b"y"})
        assert store.read(["a/1"]) == [b"x"]


def test_who_may_not_write_may_still_read(tmp_path):
    folder = tmp_path / "objects"
    url = in_folder(folder)
    with open_store(url) as store:
        store.write({"a/1": b"x"})
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for path in folders:
        path.chmod(0o555)
    prefix = disks.WITHOUT_ROOTS_RIGHTS if os.geteuid() == 0 else ()
    alone(read_but_not_write, url, prefix=prefix)
    for path in folders:
        path.chmod(0o700)


def leave_in_haste(url: str) -> None:
    store = open_store(url)
    # At the interpreter's end a thread that is telling of its own holds what is written to.
    threading.excepthook = lambda _: None
    thread = threading.Thread(target=lambda: [store.read(["a/1"]) for _ in range(10_000)])
    thread.daemon = True
    store.write({"a/1": b"x"})
    thread.start()


def test_a_process_may_end_amid_a_request(folder_url):
    for _ in range(3):
        assert "Aborted" not in alone(leave_in_haste, folder_url)


def test_says_that_it_is_closed(folder_url):
    store = opened(folder_url)
    store.write({"a/1": b"x"})
    store.close()
    for name, use in VERBS.items():
        if name != "claim":
            with pytest.raises(StoreError, match="closed"):
                use(store)


def test_its_folder_is_for_the_owner_only(folder_url, tmp_path):
    old = os.umask(0)
    try:
        open_store(folder_url).close()
    finally:
        os.umask(old)
    assert (tmp_path / "objects").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://key:secret@bucket/x", "no credentials"),
        ("s3://key@bucket", "no credentials"),
        ("s3://", "bucket"),
        ("s3:///prefix", "bucket"),
        ("s3://bucket/a//b", "empty"),
        ("s3://bucket/../b", "dotted"),
        ("s3://bucket?secret_access_key=x", "unknown option"),
        ("s3://bucket?endpoint=http://127.0.0.1:9", "allow_http"),
        ("s3://bucket?allow_http=perhaps", "true or false"),
        ("s3://bucket?timeout=0", "seconds"),
        ("s3://bucket?lookup_timeout=soon", "seconds"),
        ("az://container?region=x", "unknown option"),
        ("file+object:///x?region=y", "unknown option"),
        ("file+object://x", "two slashes"),
    ],
)
def test_a_url_that_can_only_be_a_mistake(url, message):
    with pytest.raises(InputError, match=message) as caught:
        open_store(url)
    assert "secret@" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket/some/prefix/?region=eu-central-1&virtual_hosted=true",
        "gs://bucket/prefix?endpoint=https://127.0.0.1:1",
        "az://container/prefix?account=somebody",
    ],
)
def test_opening_asks_nobody(url):
    engine, prefix = engine_of(Location.of(url), timeout=1.0)
    assert prefix in {"some/prefix", "prefix"}
    open_store(url).close()


def test_an_engine_of_the_users_own():
    from obstore.store import MemoryStore

    with ObjectStore(MemoryStore(), "mine") as store:
        store.write({"a/1": b"x"})
        assert store.read(["a/1"]) == [b"x"]
    with pytest.raises(InputError):
        ObjectStore(MemoryStore(), timeout=0)
