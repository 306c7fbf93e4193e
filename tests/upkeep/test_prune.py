"""prune, over every store: what has expired, or is of some age."""

import sqlite3

import pytest

from askonce import EmbeddingCache, InputError, open_store, upkeep
from askonce.core import entry, flow
from tests.upkeep.entries import FOREIGN, NOW, packed

HALF_YEAR = 180 * 86400.0


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
