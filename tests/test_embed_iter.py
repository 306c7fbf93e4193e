"""Streams of texts, which are embedded window by window."""

import asyncio
import threading
from collections import Counter
from contextlib import aclosing, closing

import numpy as np
import pytest

import askonce
from askonce import EmbeddingCache, InputTypeError


class Model:
    def __init__(self):
        self.asked = Counter()
        self.lock = threading.Lock()

    def __call__(self, texts):
        with self.lock:
            self.asked.update(texts)
        if "bad" in texts:
            raise RuntimeError("no such text")
        return rows_of(texts)


def rows_of(texts):
    return np.array([[len(text), int(text.split()[0]), 1] for text in texts], np.float32)


def texts_of(count):
    return [f"{number} texts" for number in range(count)]


@pytest.fixture(params=["sqlite:///{}/cache.db", "lmdb:///{}", "memory://"])
def store(request, tmp_path):
    with closing(askonce.open_store(request.param.format(tmp_path / "kept"))) as opened:
        yield opened


@pytest.fixture(params=["sync", "async"])
def listed(request):
    """Give all that a stream brings, and what it raised in the end."""

    def sync(cache, texts, **options):
        arrays = []
        try:
            arrays.extend(cache.embed_iter(texts, **options))
        except Exception as error:
            return arrays, error
        return arrays, None

    def asynchronous(cache, texts, **options):
        async def work():
            arrays = []
            try:
                async for array in cache.aembed_iter(texts, **options):
                    arrays.append(array)
            except Exception as error:
                return arrays, error
            return arrays, None

        return asyncio.run(work())

    return sync if request.param == "sync" else asynchronous


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_any_iterable_gives_its_vectors_in_order_and_asks_once(store, listed, at_once):
    model = Model()
    cache = EmbeddingCache(model, model="m", store=store, batch_size=7)
    texts = texts_of(95) + texts_of(10)  # equal texts, in windows under way at once and far apart
    arrays, error = listed(cache, (text for text in texts), window=10, at_once=at_once)
    assert error is None
    assert list(map(len, arrays)) == [10] * 10 + [5]
    assert np.concatenate(arrays).tobytes() == rows_of(texts).tobytes()
    assert set(model.asked.values()) == {1}
    arrays, _ = listed(cache, iter(texts), window=2000)
    assert np.concatenate(arrays).tobytes() == cache.embed(texts).tobytes()
    assert set(model.asked.values()) == {1}


def test_nothing_gives_nothing(store, listed):
    assert listed(EmbeddingCache(Model(), model="m", store=store), iter(())) == ([], None)


def test_an_error_comes_in_its_turn_and_what_is_done_stays(store, listed):
    model = Model()
    cache = EmbeddingCache(model, model="m", store=store)
    texts = [*texts_of(20), "bad", *texts_of(60)[30:]]
    arrays, error = listed(cache, texts, window=10, at_once=2)
    assert isinstance(error, RuntimeError)
    assert np.concatenate(arrays).tobytes() == rows_of(texts[:20]).tobytes()
    assert cache.find(texts_of(20))[0].all()


def test_what_is_no_string_comes_in_its_turn_too(store, listed):
    cache = EmbeddingCache(Model(), model="m", store=store)
    arrays, error = listed(cache, [*texts_of(10), None], window=10)
    assert isinstance(error, InputTypeError)
    assert len(arrays) == 1


def test_one_string_is_refused_at_once(store):
    cache = EmbeddingCache(Model(), model="m", store=store)
    with pytest.raises(InputTypeError, match="one string"):
        cache.embed_iter("text")
    with pytest.raises(InputTypeError, match="one string"):
        cache.aembed_iter("text")


def counted(texts, taken):
    for text in texts:
        taken.append(text)
        yield text


def test_no_more_is_taken_than_is_worked_on(store):
    cache = EmbeddingCache(Model(), model="m", store=store)
    taken = []
    arrays = cache.embed_iter(counted(texts_of(10**6), taken), window=10, at_once=2)
    assert taken == []
    for number in range(1, 6):
        next(arrays)
        assert len(taken) <= (number + 2) * 10
    before = set(threading.enumerate())
    arrays.close()
    assert not any(thread.name.startswith("askonce-ahead") and thread.is_alive() for thread in before)
    assert len(taken) <= 70


async def test_no_more_is_taken_in_a_loop_and_nothing_is_left_behind(store):
    cache = EmbeddingCache(Model(), model="m", store=store)
    taken = []
    stream = cache.aembed_iter(counted(texts_of(10**6), taken), window=10, at_once=2)
    async with aclosing(stream) as arrays:
        async for array in arrays:
            assert len(array) == 10
            break
    assert len(taken) <= 30
    await asyncio.sleep(0)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.wait_for(asyncio.gather(*others, return_exceptions=True), 30)
