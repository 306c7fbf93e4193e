"""Vectors as they are kept: small, of any numbers, and none if damaged."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_classic.storage import LocalFileStore as LangChainLocalFileStore

from askonce.core import entry
from askonce.integrations.langchain import LocalFileStore
from askonce.stores.memory import MemoryStore
from tests.integrations.langchain.embedding_models import (
    AnsweringModel,
    CountingModel,
    cached,
    files_in,
)


def test_a_vector_takes_little_more_room_than_its_numbers(tmp_path):
    model = CountingModel(dims=1536)
    cached(model, LocalFileStore(tmp_path)).embed_documents(["a"])
    ((_, content),) = files_in(tmp_path).items()
    assert len(content) == 1536 * 4 + entry.HEADER_LENGTH


ANSWERS = {
    "array": lambda rows: np.array(rows, np.float32),
    "list of arrays": lambda rows: [np.array(row) for row in rows],
    "tuples": lambda rows: tuple(map(tuple, rows)),
    "half": lambda rows: np.array(rows, np.float16),
    "integers": lambda rows: [[int(number) for number in row] for row in rows],
    "numpy scalars": lambda rows: [[np.float32(number) for number in row] for row in rows],
    "generator": lambda rows: (row for row in rows),
    "mixed": lambda rows: [[1, 2.5] for _ in rows],
    "float64": lambda rows: [[0.1, 1e-300] for _ in rows],
}


@pytest.mark.parametrize("shape", ANSWERS)
def test_numpy_vectors_and_other_numbers_are_kept(store, shape):
    model = AnsweringModel(lambda texts: ANSWERS[shape]([[1.0, 2.0] for _ in texts]))
    expected = [[float(x) for x in row] for row in ANSWERS[shape]([[1.0, 2.0]] * 2)]
    cache = cached(model, store)
    first, again = cache.embed_documents(["a", "b"]), cache.embed_documents(["a", "b"])
    assert first == again == expected
    assert {type(number) for row in first + again for number in row} == {float}
    assert len(model.asked) == 1


@pytest.mark.parametrize("content", [b"", b"[0.1, 0.2", b"[0.1, 0.", b"[", b"\0\0\0", b"ASK1"])
@pytest.mark.parametrize("make", [LocalFileStore, LangChainLocalFileStore])
def test_a_truncated_file_is_a_miss_that_heals(tmp_path, model, make, content):
    cache = cached(model, make(tmp_path))
    cache.embed_documents(["a", "b"])
    key = next(iter(files_in(tmp_path)))
    (tmp_path / key).write_bytes(content)
    model.asked.clear()
    for _ in range(2):
        assert cache.embed_documents(["a", "b"]) == [model.vector("a"), model.vector("b")]
    assert len(model.texts) == 1
    assert len(files_in(tmp_path)) == 2


@given(damage=st.data())
@settings(deadline=None, max_examples=100)
def test_a_damaged_entry_is_never_an_answer(damage):
    model, store = CountingModel(), MemoryStore()
    cache = cached(model, store)
    cache.embed_documents(["a"])
    (key,) = store.keys()
    (blob,) = store.read([key])
    if damage.draw(st.booleans(), "cut"):
        blob = blob[: damage.draw(st.integers(0, len(blob) - 1), "length")]
    else:
        at = damage.draw(st.integers(0, len(blob) - 1), "at")
        flipped = blob[at] ^ damage.draw(st.integers(1, 255), "bits")
        blob = blob[:at] + bytes([flipped]) + blob[at + 1 :]
    store.write({key: blob})
    assert cache.embed_documents(["a"]) == [model.vector("a")]
    asked = len(model.asked)
    assert cache.embed_documents(["a"]) == [model.vector("a")]
    assert len(model.asked) == asked


HARD_TEXTS = ["", "\ud800", "\udfff\ud800", "\0", "e\u0301", "\u00e9", " ", "x" * 2**20, "\U0001f600"]


def test_lone_surrogates_and_other_hard_texts_are_kept(store, model):
    cache = cached(model, store, query_embedding_cache=True)
    for _ in range(2):
        assert cache.embed_documents(HARD_TEXTS) == [model.vector(text) for text in HARD_TEXTS]
        assert cache.embed_query("\ud800") == model.vector("\ud800", "query")
    assert model.asked == [HARD_TEXTS]
