"""verify, prune and vacuum, over every store."""

import os
import pathlib
import sqlite3
import subprocess
import sys
import threading

import numpy as np
import pytest

from askonce import EmbeddingCache, InputError, StoreError, open_store, upkeep
from askonce.core import codecs, entry, flow, vectors
from askonce.stores import lmdb_environment
from askonce.stores.lmdb import LMDBStore
from tests.alone import alone, fork, join

URLS = ["memory://", "sqlite:///{}/store.db", "file:///{}/store", "lmdb:///{}/store"]
NOW = 1_000_000_000.0
HALF_YEAR = 180 * 86400.0


@pytest.fixture(params=URLS, ids=["memory", "sqlite", "file", "lmdb"])
def store(request, tmp_path):
    with open_store(request.param.format(tmp_path)) as opened:
        yield opened


def packed(text="answer", *, created=NOW - 10, expires=entry.NEVER):
    return entry.pack(entry.Entry(text.encode(), codecs.JSON, created, expires))


def vector(*numbers):
    return entry.pack(entry.Entry(np.array(numbers, np.float32).tobytes(), codecs.FLOAT32, NOW))


def flip(blob, bit):
    damaged = bytearray(blob)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


GOOD = packed("a whole entry of some length")
DAMAGED = {
    "a/bit": (flip(GOOD, 60 * 8), "its checksum does not fit"),
    "a/codec": (flip(GOOD, 4 * 8), "its checksum does not fit"),
    "a/cut": (GOOD[:-8], "a part of it is missing"),
    "a/header": (GOOD[:20], "a part of it is missing"),
    "a/length": (flip(GOOD, 36 * 8 + 4), "a part of it is missing"),
    "a/longer": (GOOD + bytes(8), "a part of it is missing"),
    "a/empty": (b"", "it is empty"),
    "a/zeros": (bytes(5000), "it is all zeros"),
    "a/no-vector": (
        entry.pack(entry.Entry(b"123", codecs.FLOAT32, NOW)),
        "its payload is no vector",
    ),
    "a/nan": (vector(1.0, float("nan")), "its vector holds NaN"),
    "a/half": (
        entry.pack(entry.Entry(np.array([np.inf], np.float16).tobytes(), codecs.FLOAT16, NOW)),
        "its vector holds NaN or infinity",
    ),
}
FOREIGN = {"langchain": b"[0.1, 0.2]", "pickled": b"\x80\x04K\x01.", "text": b"ASK0 not ours"}
WHOLE = {
    "b/json": GOOD,
    "b/expired": packed(expires=NOW - 1),
    "b/single": vector(1.0, 2.0),
    "b/newer": entry.pack(entry.Entry(b"?", 250, NOW)),
    "b/meta": entry.pack(entry.Entry(b"{}", codecs.JSON, NOW, meta={"model": "m"})),
}


def test_verify_tells_whole_foreign_and_damaged_apart(store):
    store.write(WHOLE | FOREIGN | {key: blob for key, (blob, _) in DAMAGED.items()})
    before = dict(zip(sorted(store.keys()), store.read(sorted(store.keys())), strict=True))
    report = upkeep.verify(store)
    assert (report.whole, report.foreign) == (len(WHOLE), len(FOREIGN))
    assert {damage.key for damage in report.damaged} == set(DAMAGED)
    for damage in report.damaged:
        assert damage.reason.startswith(DAMAGED[damage.key][1]), damage
        assert not damage.deleted
    assert not report.is_sound
    assert dict(zip(sorted(before), store.read(sorted(before)), strict=True)) == before


def test_repair_deletes_what_is_damaged_and_nothing_else(store):
    store.write(WHOLE | FOREIGN | {key: blob for key, (blob, _) in DAMAGED.items()})
    report = upkeep.verify(store, repair=True)
    assert len(report.damaged) == len(DAMAGED)
    assert all(damage.deleted for damage in report.damaged)
    assert report.is_sound
    assert sorted(store.keys()) == sorted(WHOLE | FOREIGN)
    again = upkeep.verify(store)
    assert (again.whole, again.foreign, again.damaged) == (len(WHOLE), len(FOREIGN), [])


def test_every_flipped_bit_is_found(store):
    rows = np.array([[0.25, -3.0]], np.float32)
    (blob,) = vectors.pack(rows, np.ones(1, np.uint64), created=NOW, expires=entry.NEVER)
    bits = range(len(blob) * 8)
    store.write({f"a/{bit}": flip(blob, bit) for bit in bits})
    report = upkeep.verify(store)
    assert report.whole == 0
    # Without its first four bytes it is not ours, and not touched.
    assert report.foreign == 32
    assert len(report.damaged) == len(bits) - 32


def test_what_a_cache_wrote_is_whole_and_what_was_repaired_is_asked_for_again(store):
    asked = []

    def embed(texts):
        asked.extend(texts)
        return np.random.default_rng(len(texts)).standard_normal((len(texts), 8), np.float32)

    caches = [
        EmbeddingCache(embed, model="m", store=store, codec=codec)
        for codec in ("lossless", "float16", "int8")
    ]
    for cache in caches:
        cache.embed([str(number) for number in range(600)])
    assert upkeep.verify(store).whole == 1800
    victims = sorted(store.keys())[::100]
    store.write({key: flip(blob, 500) for key, blob in zip(victims, store.read(victims), strict=True)})
    report = upkeep.verify(store, repair=True)
    assert {damage.key for damage in report.damaged} == set(victims)
    asked.clear()
    for cache in caches:
        cache.embed([str(number) for number in range(600)])
    assert len(asked) == len(victims)
    assert upkeep.verify(store).whole == 1800


def test_progress_hears_of_every_entry(store):
    store.write({f"a/{number}": GOOD for number in range(1234)})
    heard = []
    upkeep.verify(store, progress=heard.append)
    assert sum(heard) == 1234
    heard.clear()
    assert upkeep.prune(store, now=NOW, older_than=1e9, progress=heard.append) == 0
    assert sum(heard) == 1234


class Wrapped(open_store("memory://").__class__):
    """Heal every damaged entry as soon as it was read; fail to read some."""

    unreadable: frozenset = frozenset()
    healing = False

    def read(self, keys):
        if self.unreadable.intersection(keys):
            raise StoreError(f"the disk fails at {sorted(self.unreadable.intersection(keys))[0]}")
        values = super().read(keys)
        if self.healing:
            self.write({key: GOOD for key, value in zip(keys, values, strict=True) if value != GOOD})
        return values


def test_what_was_healed_meanwhile_is_not_deleted():
    store = Wrapped()
    store.write({"a/1": flip(GOOD, 500), "a/2": GOOD})
    store.healing = True
    report = upkeep.verify(store, repair=True)
    assert [(damage.key, damage.deleted) for damage in report.damaged] == [("a/1", False)]
    assert store.read(["a/1"]) == [GOOD]


def test_what_cannot_be_read_is_told_and_left_alone():
    store = Wrapped()
    store.write({f"a/{number}": GOOD for number in range(10)})
    store.unreadable = frozenset({"a/3", "a/7"})
    report = upkeep.verify(store, repair=True)
    assert report.whole == 8
    assert {damage.key for damage in report.damaged} == {"a/3", "a/7"}
    assert all("cannot be read: the disk fails at" in one.reason for one in report.damaged)
    assert not any(damage.deleted for damage in report.damaged)
    assert len(list(store.keys())) == 10
    store.unreadable = frozenset(store.keys())
    with pytest.raises(StoreError, match="the disk fails"):
        upkeep.verify(store)


def test_prune_deletes_what_has_expired(store):
    store.write({"a/good": packed(expires=NOW + 1), "a/never": packed()}, expires=entry.NEVER)
    store.write({"a/old": packed(expires=NOW - 1)}, expires=NOW - 1)
    store.write(FOREIGN)
    assert upkeep.prune(store, now=NOW) == 1
    assert sorted(store.keys()) == sorted(["a/good", "a/never", *FOREIGN])


def test_prune_by_age_and_namespace(store):
    for namespace in ("_", "team"):
        store.write(
            {
                f"{namespace}/embedding/m/old": packed(created=NOW - HALF_YEAR),
                f"{namespace}/embedding/m/new": packed(created=NOW - 10),
                f"{namespace}/embedding/m/expired": packed(expires=NOW - 1),
            }
        )
    store.write(FOREIGN | {"team/damaged": b"ASK1", "teams/old": packed(created=0.0)})
    assert upkeep.prune(store, now=NOW, namespace="team") == 1
    assert "_/embedding/m/expired" in set(store.keys())
    assert upkeep.prune(store, now=NOW, namespace="", older_than=HALF_YEAR - 1) == 2
    assert upkeep.prune(store, now=NOW, older_than=HALF_YEAR + 1) == 1
    left = {"_/embedding/m/new", "team/embedding/m/old", "team/embedding/m/new", "team/damaged"}
    assert set(store.keys()) == left | set(FOREIGN)
    assert upkeep.prune(store, now=NOW, older_than=60) == 1
    assert upkeep.prune(store, now=NOW, older_than=60) == 0


def test_prune_knows_what_time_it_is(store):
    store.write({"a/new": packed(created=4e9)})
    store.write({"a/old": packed(created=1.0, expires=2.0)}, expires=2.0)
    assert upkeep.prune(store) == 1
    assert list(store.keys()) == ["a/new"]


@pytest.mark.parametrize("age", [0, -1, float("nan")])
def test_an_age_that_is_none_is_refused(store, age):
    with pytest.raises(InputError, match="older_than"):
        upkeep.prune(store, older_than=age)


def test_an_expired_entry_is_a_miss_before_and_after_it_is_pruned(store, monkeypatch):
    asked = []
    cache = EmbeddingCache(
        lambda texts: asked.extend(texts) or [[1.0]] * len(texts), model="m", store=store, ttl=60
    )
    for now, count in ((NOW, 1), (NOW + 59, 1), (NOW + 60, 2)):
        monkeypatch.setattr(flow, "now", lambda now=now: now)
        cache.embed(["text"])
        assert len(asked) == count
    assert upkeep.prune(store) == 0
    monkeypatch.setattr(flow, "now", lambda: NOW + 120)
    assert upkeep.prune(store) == 1
    cache.embed(["text"])
    assert len(asked) == 3


def test_a_ttl_too_short_for_the_clock_is_no_endless_call(store):
    asked = []
    cache = EmbeddingCache(
        lambda texts: asked.extend(texts) or [[1.0]] * len(texts), model="m", store=store, ttl=1e-12
    )
    cache.embed(["text"])
    assert asked == ["text"]


@pytest.mark.parametrize("url", URLS[1:])
def test_a_vacuum_gives_space_back(tmp_path, url):
    with open_store(url.format(tmp_path)) as store:
        for start in range(0, 1000, 100):
            store.write({f"a/{start + part}": os.urandom(5_000) for part in range(100)})
        full = store.size()
        assert full > 5_000_000
        store.delete([f"a/{number}" for number in range(900)])
        store.vacuum()
        assert store.size() < full / 5
        assert len(list(store.keys())) == 100


@pytest.mark.parametrize("url", URLS[1:])
def test_a_vacuum_amid_threads_fails_nobody(tmp_path, url):
    store = open_store(url.format(tmp_path))
    stop = threading.Event()
    errors = []

    def work(who):
        turn = 0
        try:
            while not stop.is_set():
                store.write({f"a/{who}-{turn % 50}": bytes([who]) * 3_000})
                assert store.read([f"a/{who}-{turn % 50}"]) == [bytes([who]) * 3_000]
                store.delete([f"a/{who}-{(turn + 25) % 50}"])
                turn += 1
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(who,)) for who in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        store.vacuum()
    stop.set()
    for thread in threads:
        thread.join()
    assert not errors
    store.close()


def vacuum_amid_processes(url: str) -> None:
    def work(who: int) -> None:
        with open_store(url) as store:
            for turn in range(100):
                store.write({f"a/{who}-{turn}": bytes([who]) * 3_000})
                assert store.read([f"a/{who}-{turn}"]) == [bytes([who]) * 3_000]

    children = [fork(lambda who=who: work(who)) for who in range(3)]
    with open_store(url) as store:
        for _ in range(5):
            store.vacuum()
    join(*children)
    with open_store(url) as store:
        assert len(list(store.keys())) == 300


@pytest.mark.parametrize("url", URLS[1:3])
def test_a_vacuum_amid_processes_fails_nobody(tmp_path, url):
    alone(vacuum_amid_processes, url.format(tmp_path))


def test_a_file_stores_vacuum_removes_empty_folders_and_abandoned_files(tmp_path):
    root = tmp_path / "store"
    store = open_store(f"file:///{root}")
    store.write({"a/b/c/1": b"x", "a/d/1": b"y"})
    store.delete(["a/b/c/1"])
    for name, age in (("abandoned", 1e4), ("under-way", 0)):
        path = root / ".askonce" / name
        path.write_bytes(b"half of i")
        os.utime(path, (path.stat().st_atime - age, path.stat().st_mtime - age))
    store.vacuum()
    assert not (root / "a/b").exists()
    assert store.read(["a/d/1"]) == [b"y"]
    assert [path.name for path in (root / ".askonce").iterdir()] == ["under-way"]
    store.close()


def test_an_lmdb_store_that_another_process_has_open_is_not_vacuumed(tmp_path):
    store = LMDBStore(tmp_path / "store")
    store.write({"a/1": b"x"})
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, f"lmdb:///{tmp_path}/store"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout.readline() == "open\n"
    with pytest.raises(StoreError, match=r"open in another process; close it there"):
        store.vacuum()
    store.write({"a/2": b"y"})
    assert other.communicate("\n")[0] == "['a/1', 'a/2']\n"
    store.vacuum()
    assert sorted(store.keys()) == ["a/1", "a/2"]
    store.close()


HOLD = """
import sys, askonce
store = askonce.open_store(sys.argv[1])
print("open", flush=True)
sys.stdin.readline()
print(sorted(store.keys()))
"""


def test_who_opens_an_lmdb_store_amid_its_vacuum_waits_and_sees_the_new_file(tmp_path, monkeypatch):
    store = LMDBStore(tmp_path / "store")
    for number in range(50):
        store.write({f"a/{number}": bytes(5_000)})
    compact = lmdb_environment._compact
    others = []

    def with_another(path):
        other = subprocess.Popen(
            [sys.executable, "-c", USE, f"lmdb:///{path}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        others.append(other)
        waits, locks = f" {other.pid} ", pathlib.Path("/proc/locks")
        while not any("->" in line and waits in line for line in locks.read_text().splitlines()):
            assert other.poll() is None
        compact(path)

    monkeypatch.setattr(lmdb_environment, "_compact", with_another)
    store.vacuum()
    assert others[0].stdout.readline() == "50\n"
    assert store.read(["b/other"]) == [b"written by another"]
    store.write({"b/mine": b"mine"})
    assert others[0].communicate("\n")[0] == "[b'mine']\n"
    assert len(list(store.keys())) == 52
    store.close()


USE = """
import sys, askonce
store = askonce.open_store(sys.argv[1])
count = len(list(store.keys()))
store.write({"b/other": b"written by another"})
print(count, flush=True)
sys.stdin.readline()
print(store.read(["b/mine"]))
"""


def test_an_lmdb_vacuum_that_fails_leaves_the_store_as_it_was(tmp_path, monkeypatch):
    store = LMDBStore(tmp_path / "store")
    store.write({"a/1": b"x"})

    def fail(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lmdb_environment, "_compact", fail)
    with pytest.raises(StoreError, match="No space left"):
        store.vacuum()
    assert store.read(["a/1"]) == [b"x"]
    monkeypatch.undo()
    (tmp_path / "store/.compact").mkdir()
    (tmp_path / "store/.compact/data.mdb").write_bytes(b"left behind")
    store.vacuum()
    assert store.read(["a/1"]) == [b"x"]
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == ["data.mdb", "lock.mdb"]
    assert (tmp_path / "store/data.mdb").stat().st_mode & 0o777 == 0o600
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.vacuum()


def test_a_file_of_before_the_index_is_pruned_all_the_same(tmp_path):
    path = tmp_path / "store.db"
    with open_store(f"sqlite:///{path}") as store:
        store.write({"a/1": packed(expires=NOW - 1)}, expires=NOW - 1)
    connection = sqlite3.connect(path)
    connection.execute("DROP INDEX askonce_expires")
    connection.commit()
    connection.close()
    with open_store(f"sqlite:///{path}") as store:
        assert store.prune(NOW) == 1
        assert not list(store.keys())


def test_a_log_that_somebody_keeps_from_being_emptied_is_emptied_later(tmp_path, monkeypatch):
    path = pathlib.Path(tmp_path / "store.db")
    store = open_store(f"sqlite:///{path}?max_bytes=2MB")
    store.write({"a/0": bytes(1_000)})
    reader = sqlite3.connect(path)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM askonce_entries").fetchone()
    for number in range(30):
        store.write({f"a/{number}": bytes(100_000)})
    assert store._database.log.stat().st_size > 1_500_000
    reader.close()
    store._database._trim_after = 0.0
    store.write({"a/last": b"x"})
    assert store._database.log.stat().st_size < 1_500_000
    store.close()
