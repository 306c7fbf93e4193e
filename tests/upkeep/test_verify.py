"""verify, over every store: whole, foreign and damaged entries, and their repair."""

import numpy as np
import pytest

from askonce import EmbeddingCache, StoreError, open_store, upkeep
from askonce.core import codecs, entry, vectors
from tests.upkeep.entries import FOREIGN, GOOD, NOW, flip, packed, vector

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
