"""Large calls, which are read a window ahead of what is digested and copied."""

import asyncio
import os
import sqlite3
import threading
from contextlib import closing

import numpy as np
import pytest

import askonce
from askonce import EmbeddingCache, InputTypeError

COUNT = 5_300
DIMENSIONS = 24
SHAPE = np.arange(1, DIMENSIONS + 1, dtype=np.float32)


class Model:
    def __init__(self):
        self.asked = []

    def __call__(self, texts):
        self.asked += texts
        return rows_of(texts)


def rows_of(texts):
    return np.array([int(text.split()[0]) for text in texts], np.float32)[:, None] * SHAPE


def texts_of(numbers):
    return [f"{number} passages" for number in numbers]


def embed(colour, cache, texts):
    return cache.embed(texts) if colour == "sync" else asyncio.run(cache.aembed(texts))


@pytest.fixture(params=["sqlite:///{}/cache.db", "lmdb:///{}", "file:///{}", "memory://"])
def store(request, tmp_path):
    with closing(askonce.open_store(request.param.format(tmp_path / "kept"))) as opened:
        yield opened


@pytest.fixture(params=["sync", "async"])
def colour(request):
    return request.param


def test_a_large_call_gives_each_text_its_vector_and_asks_for_each_once(store, colour):
    chance = np.random.default_rng(7)
    model, events = Model(), []
    cache = EmbeddingCache(
        model, model="m", store=store, batch_size=1000, observe=lambda event: events.append(event)
    )
    before = texts_of(range(0, COUNT, 3)[: COUNT // 6])
    embed(colour, cache, before)
    assert sorted(model.asked) == sorted(before)
    # Some stored, most of them in one window, some twice, also far apart.
    wanted = texts_of(chance.integers(0, COUNT, COUNT)) + before + texts_of([1, 1, 0, 1])
    events.clear()
    model.asked.clear()
    rows = embed(colour, cache, wanted)
    assert rows.tobytes() == rows_of(wanted).tobytes()
    missing = set(wanted) - set(before)
    assert len(model.asked) == len(missing)
    assert set(model.asked) == missing
    counts = {
        kind: sum(event.count for event in events if event.kind == kind)
        for kind in ("hit", "miss", "stored", "store_failed")
    }
    assert counts == {
        "hit": len(set(wanted) & set(before)),
        "miss": len(missing),
        "stored": len(missing),
        "store_failed": 0,
    }
    model.asked.clear()
    assert embed(colour, cache, wanted[::-1]).tobytes() == rows_of(wanted[::-1]).tobytes()
    found, vectors = cache.find([*wanted[:2500], "7 not there"])
    assert found.tolist() == [True] * 2500 + [False]
    assert vectors.tobytes() == rows_of(wanted[:2500]).tobytes()
    assert model.asked == []


def test_what_is_no_string_late_in_a_large_list_is_told_by_its_place(store, colour):
    cache = EmbeddingCache(Model(), model="m", store=store)
    wanted = [*texts_of(range(COUNT)), None, "1 passages"]
    with pytest.raises(InputTypeError, match=rf"texts\[{COUNT}\] is a NoneType"):
        embed(colour, cache, wanted)


def test_nobody_is_left_when_a_large_call_has_ended(store):
    cache = EmbeddingCache(Model(), model="m", store=store, batch_size=1000)
    texts = texts_of(range(COUNT))
    cache.embed(texts)
    before = threading.active_count()
    for _ in range(10):
        cache.embed(texts)
        assert threading.active_count() <= before


def test_many_equal_texts_are_few(store, colour):
    model = Model()
    cache = EmbeddingCache(model, model="m", store=store)
    wanted = texts_of(number % 7 for number in range(COUNT))
    for _ in range(2):
        rows = embed(colour, cache, wanted)
        assert rows.shape == (COUNT, DIMENSIONS)
        assert rows.tobytes() == rows_of(wanted).tobytes()
    assert sorted(model.asked) == texts_of(range(7))


def test_arrays_that_were_given_stay_as_they_are_while_others_come(store):
    cache = EmbeddingCache(Wide(), model="m", store=store, batch_size=2000)
    texts = texts_of(range(1500))
    given = []
    for step in (1, 7, 11, 13):
        wanted = [texts[place * step % 1500] for place in range(1500)]
        given.append((wanted, cache.embed(wanted)))
        cache.embed(wanted[::-1])
    for wanted, rows in given:
        assert rows.tobytes() == wide(wanted).tobytes()


class Wide(Model):
    def __call__(self, texts):
        self.asked += texts
        return wide(texts)


def wide(texts):
    return np.repeat(rows_of(texts), 40, axis=1)


def test_many_threads_read_large_calls_of_one_file(tmp_path):
    url = f"sqlite:///{tmp_path}/cache.db"
    with closing(EmbeddingCache(Model(), model="m", store=url, batch_size=1000)) as cache:
        texts = texts_of(range(COUNT))
        cache.embed(texts)
        wrong = []

        def work(seed):
            order = np.random.default_rng(seed).permutation(COUNT)
            wanted = [texts[place] for place in order]
            for _ in range(3):
                if cache.embed(wanted).tobytes() != rows_of(wanted).tobytes():
                    wrong.append(seed)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


def test_an_sqlite_that_takes_few_parameters_is_enough(tmp_path, monkeypatch):
    connect = sqlite3.connect

    def limited(*arguments, **options):
        connection = connect(*arguments, **options)
        connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 999)
        return connection

    monkeypatch.setattr(sqlite3, "connect", limited)
    model, events = Model(), []
    url = f"sqlite:///{tmp_path}/cache.db"
    with closing(EmbeddingCache(model, model="m", store=url, observe=events.append)) as cache:
        texts = texts_of(range(COUNT))
        cache.embed(texts)
        assert cache.embed(texts).tobytes() == rows_of(texts).tobytes()
    assert len(model.asked) == COUNT
    assert "store_failed" not in {event.kind for event in events}


@pytest.mark.parametrize("engine", ["sqlite:///{}/cache.db", "lmdb:///{}"])
@pytest.mark.parametrize("codec", ["lossless", "float16", "int8"])
def test_damaged_entries_of_a_large_call_are_misses_and_nothing_is_said(tmp_path, engine, codec):
    model = Wide()
    url = engine.format(tmp_path)
    with closing(EmbeddingCache(model, model="m", store=url, codec=codec)) as cache:
        texts = texts_of(range(3000))
        expected = cache.embed(texts)
        keys = sorted(cache.store.keys())
        damaged = keys[::100]
        for key, blob in zip(damaged, cache.store.read(damaged), strict=True):
            # Among others a scale that is no number, or enormous.
            cache.store.write({key: blob[:56] + bytes([255, 255, 127, 127]) * 2 + blob[64:]})
        model.asked.clear()
        with np.errstate(all="raise"):
            assert cache.embed(texts).tobytes() == expected.tobytes()
        assert len(model.asked) == len(damaged)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
@pytest.mark.parametrize("engine", ["sqlite:///{}/cache.db", "lmdb:///{}"])
def test_a_model_may_fork_in_the_middle_of_a_large_call(tmp_path, engine):
    """The child goes on with the call itself, as `multiprocessing` would not."""
    url = engine.format(tmp_path)
    texts = texts_of(range(3000))
    with closing(EmbeddingCache(Wide(), model="m", store=url, batch_size=1500)) as cache:
        cache.embed(texts)
    children = []

    def forking(wanted):
        children.append(os.fork())
        return wide(wanted)

    with closing(EmbeddingCache(forking, model="m", store=url, batch_size=4000)) as cache:
        wanted = [*texts, "7000 passages"]
        right = cache.embed(wanted).tobytes() == wide(wanted).tobytes()
        if children[0] == 0:
            os._exit(0 if right else 1)
    assert right
    assert os.waitpid(children[0], 0)[1] == 0


def test_a_file_that_breaks_in_the_middle_is_a_miss(tmp_path, colour):
    path = tmp_path / "cache.db"
    texts = texts_of(range(COUNT))
    with closing(EmbeddingCache(Model(), model="m", store=f"sqlite:///{path}")) as cache:
        cache.embed(texts)
    model, events = Model(), []
    with closing(
        EmbeddingCache(model, model="m", store=f"sqlite:///{path}", observe=events.append)
    ) as cache:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("ALTER TABLE askonce_entries RENAME TO elsewhere")
            connection.commit()
        assert embed(colour, cache, texts).tobytes() == rows_of(texts).tobytes()
    assert sorted(model.asked) == sorted(texts)
    assert {event.kind for event in events} == {"store_failed", "miss"}
