import asyncio
import itertools
import pathlib
import shutil
import zlib

import pytest
from askonce import StoreError, open_store
from tests.servers.s3 import S3Server
from tests.stores.objects import PATIENT, VECTORS, in_folder, opened

_numbers = itertools.count()


@pytest.fixture
def bucket(s3: S3Server) -> str:
    return s3.make_bucket(f"damaged-{next(_numbers)}")


@pytest.fixture
def folder_url(tmp_path: pathlib.Path) -> str:
    return in_folder(tmp_path / "objects")


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def cut_a_little(content: bytes) -> bytes:
    return content[:-1]


def flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def empty(_: bytes) -> bytes:
    return b""


def swap_first_and_last(content: bytes) -> bytes:
    return content[-20:] + content[20:-20] + content[:20]


def filled(url: str) -> dict[str, bytes]:
    """Fill a store so that it has every kind of object: loose and merged segments, packs."""
    model = {f"a/{number}": bytes([number]) * 4_000 for number in range(100)}
    with opened(url) as store:
        store.write(model)
        store.write({"a/small": b"small", "a/doomed": b"x", "a/1": b"old"})
        store.delete(["a/doomed"])
        asyncio.run(store._log.merge())
        late = {"a/late": b"late", "a/1": b"new", "a/other": b"other"}
        store.write(late)
        store.write({f"b/{number}": bytes([number]) * 4_000 for number in range(50)})
    more = {f"b/{number}": bytes([number]) * 4_000 for number in range(50)}
    return model | {"a/small": b"small"} | late | more


@pytest.mark.parametrize("damage", [cut, cut_a_little, flip, empty, swap_first_and_last, None])
def test_what_is_damaged_is_missing_and_heals(tmp_path, damage):
    whole = tmp_path / "whole"
    model = filled(in_folder(whole))
    paths = [path.relative_to(whole) for path in sorted(whole.rglob("*-*"))]
    paths += [path.relative_to(whole) for path in sorted(whole.rglob("log/m*"))]
    assert {path.parts[1] for path in paths} == {"log", "index", "packs"}
    for number, path in enumerate(paths):
        copy = tmp_path / str(number)
        shutil.copytree(whole, copy)
        if damage is None:
            (copy / path).unlink()
        else:
            (copy / path).write_bytes(damage((copy / path).read_bytes()))
        url = in_folder(copy)
        with open_store(url) as store:
            keys = [*model, "a/doomed"]
            values = store.read(keys)
            for key, value in zip(keys, values, strict=True):
                # A damaged segment uncovers what it replaced; that was right once.
                assert value in {None, model.get(key), b"\1" * 4_000, b"old"}, (path, key)
            assert set(store.keys()) <= set(model)
            lost = {key: model[key] for key, value in zip(model, values) if value != model[key]}
            store.write(lost)
            assert store.read(list(model)) == list(model.values()), path
            store.vacuum()  # finds the damage that no look-up met
            values = store.read(list(model))
            lost = {key: model[key] for key, value in zip(model, values) if value is None}
            assert len(lost) < len(model)
            store.write(lost)
            assert store.read(list(model)) == list(model.values()), path
            assert store.read(["a/doomed"]) == [None]
            assert set(store.keys()) == set(model)


def test_an_object_of_no_bytes_is_a_miss_on_s3(s3, bucket):
    url = s3.url(bucket, **PATIENT)
    with open_store(url) as store:
        store.write(VECTORS)
        store.write({"a/1": b"one"})
    for path in [*paths_of(s3, bucket, "packs"), *paths_of(s3, bucket, "log")]:
        assert s3.ask("PUT", f"/{bucket}/{path}", b"")[0] == 200
        with open_store(url) as store:
            found = store.read([*VECTORS, "a/1"])
            assert set(found) <= {*VECTORS.values(), b"one", None}
    with open_store(url) as store:
        assert store.read([*VECTORS, "a/1"]) == [None] * 1_001
        store.write(VECTORS)
        assert store.read(list(VECTORS)) == list(VECTORS.values())


def paths_of(server: S3Server, bucket: str, folder: str) -> list[str]:
    _, listed = server.ask("GET", f"/{bucket}?list-type=2&prefix=askonce/{folder}/")
    return [part.split("</Key>")[0] for part in listed.decode().split("<Key>")[1:]]


def test_values_of_a_truncated_pack_that_are_still_there_are_read(s3, bucket):
    url = s3.url(bucket, **PATIENT)
    with open_store(url) as store:
        store.write(VECTORS)
    (path,) = paths_of(s3, bucket, "packs")
    _, content = s3.ask("GET", f"/{bucket}/{path}")
    s3.ask("PUT", f"/{bucket}/{path}", content[: 500 * 6_000 + 10])
    with open_store(url) as store:
        values = store.read(list(VECTORS))
        assert values == [*list(VECTORS.values())[:500], *[None] * 500]
        assert store.read(list(VECTORS)[600:]) == [None] * 400


def test_a_newer_format_is_refused_and_left_alone(folder_url, tmp_path):
    with opened(folder_url) as store:
        store.write({"a/1": b"x"})
        store.vacuum()
        store.write({"a/2": b"x"})
    (manifest,) = (tmp_path / "objects").rglob("m0*")
    newer = b'{"format": 2}'
    manifest.write_bytes(b"%08x\n" % zlib.crc32(newer) + newer)
    with open_store(folder_url) as store, pytest.raises(StoreError, match="newer askonce"):
        store.read(["a/1"])
    assert manifest.read_bytes().endswith(newer)


def test_foreign_objects_are_left_alone(s3, bucket):
    prefix = "some/prefix"
    foreign = [
        "elsewhere",
        "some/other",
        f"{prefix}/askonce2/log/l",
        f"{prefix}/askonce/readme",
        f"{prefix}/askonce/log/notes",
        f"{prefix}/askonce/log/m12",
        f"{prefix}/askonce/index/notes",
        f"{prefix}/askonce/packs/notes",
    ]
    for path in foreign:
        s3.ask("PUT", f"/{bucket}/{path}", b"theirs")
    with open_store(s3.url(bucket, f"/{prefix}", **PATIENT)) as store:
        assert list(store.keys()) == []
        store.write({"a/1": b"x"})
        store.write(VECTORS)
        assert store.clear("") == 1_001
        store.vacuum()
        assert list(store.keys()) == []
    for path in foreign:
        assert s3.ask("GET", f"/{bucket}/{path}") == (200, b"theirs")


def test_two_prefixes_are_two_stores(s3, bucket):
    with (
        open_store(s3.url(bucket, **PATIENT)) as one,
        open_store(s3.url(bucket, "/below", **PATIENT)) as other,
    ):
        one.write({"a/1": b"one"})
        other.write({"a/1": b"other"})
        assert one.clear("") == 1
        assert other.read(["a/1"]) == [b"other"]
