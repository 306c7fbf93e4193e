"""`CacheBackedEmbeddings`: each defect of LangChain's that it repairs, by name, and its promises."""

import asyncio
import json
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_classic.storage import LocalFileStore as LangChainLocalFileStore
from langchain_core.embeddings import Embeddings
from langchain_core.stores import InMemoryByteStore as LangChainInMemoryByteStore
from langchain_core.stores import InMemoryStore as LangChainInMemoryStore
from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

import askonce.integrations.langchain.embeddings as wrapper
from askonce.core import entry
from askonce.errors import AnswerError, InputError, InputTypeError
from askonce.integrations.langchain import (
    CacheBackedEmbeddings,
    InMemoryByteStore,
    LocalFileStore,
    SQLiteByteStore,
    StoreByteStore,
)
from askonce.integrations.langchain.embedding_store import EmbeddingStore
from askonce.stores.memory import MemoryStore
from tests.integrations.langchain.embedding_models import (
    AnsweringModel,
    CountingModel,
    cached,
    files_in,
)

MAKERS = {
    "ours-memory": lambda folder: InMemoryByteStore(),
    "ours-files": lambda folder: LocalFileStore(folder / "files"),
    "ours-sqlite": lambda folder: SQLiteByteStore(folder / "a.db"),
    "langchain-memory": lambda folder: LangChainInMemoryByteStore(),
    "langchain-files": lambda folder: LangChainLocalFileStore(folder / "files"),
    "store": lambda folder: MemoryStore(),
    "url-file": lambda folder: f"file:///{folder}/files",
    "url-sqlite": lambda folder: f"sqlite:///{folder}/a.db",
    "url-lmdb": lambda folder: f"lmdb:///{folder}/lmdb",
}


@pytest.fixture(params=MAKERS)
def store(request, tmp_path):
    return MAKERS[request.param](tmp_path)


@pytest.fixture
def model():
    return CountingModel()


@pytest.fixture
def no_warning_yet(monkeypatch):
    monkeypatch.setattr(wrapper, "_warned_about_sha1", False)


@pytest.fixture
def warned(monkeypatch):
    monkeypatch.setattr(wrapper, "_warned_about_sha1", True)


class CachedModel(CacheBackedEmbeddings):
    """Be what the standard suites can construct from parameters."""

    def __new__(cls, queries: bool = False):
        return cached(CountingModel(), InMemoryByteStore(), query_embedding_cache=queries)


class Parameters:
    @property
    def embeddings_class(self) -> type[Embeddings]:
        return CachedModel


class WithQueries(Parameters):
    @property
    def embedding_model_params(self) -> dict:
        return {"queries": True}


class TestStandardUnit(Parameters, EmbeddingsUnitTests):
    pass


class TestStandard(Parameters, EmbeddingsIntegrationTests):
    pass


class TestStandardWithQueries(WithQueries, EmbeddingsIntegrationTests):
    pass


# What it is for


def test_what_was_asked_is_not_asked_again(store, model):
    first = cached(model, store).embed_documents(["a", "b"])
    again = cached(model, store).embed_documents(["b", "c", "a"])
    assert model.asked == [["a", "b"], ["c"]]
    assert first == [model.vector("a"), model.vector("b")]
    assert again == [model.vector("b"), model.vector("c"), model.vector("a")]


async def test_what_one_colour_asked_the_other_reads(store, model):
    first = await cached(model, store).aembed_documents(["a", "b"])
    again = cached(model, store).embed_documents(["a", "b", "c"])
    last = await cached(model, store).aembed_documents(["a", "b", "c"])
    assert model.asked == [["a", "b"], ["c"]]
    assert model.colours == ["async", "sync"]
    assert first == again[:2]
    assert last == again == [model.vector(text) for text in "abc"]


def test_results_are_lists_of_python_floats(model):
    cache = cached(model, "memory://", query_embedding_cache=True)
    for _ in range(2):
        (vector,) = cache.embed_documents(["a"])
        for numbers in (vector, cache.embed_query("q")):
            assert type(numbers) is list
            assert {type(number) for number in numbers} == {float}


async def test_results_are_lists_of_python_floats_in_async_too(model):
    cache = cached(model, "memory://", query_embedding_cache=True)
    for _ in range(2):
        (vector,) = await cache.aembed_documents(["a"])
        for numbers in (vector, await cache.aembed_query("q")):
            assert type(numbers) is list
            assert {type(number) for number in numbers} == {float}


def test_nothing_asks_nothing(store, model):
    assert cached(model, store).embed_documents([]) == []
    assert asyncio.run(cached(model, store).aembed_documents([])) == []
    assert not model.asked


# E1 to E17, the defects of LangChain's class and file store


def fails_at(bad):
    def answer(texts):
        if bad in texts:
            raise ConnectionError("the provider is gone")
        return [[float(text)] for text in texts]

    return answer


@pytest.mark.parametrize(("batch_size", "kept"), [(None, 900), (30, 930)])
def test_a_failure_keeps_all_finished_batches(store, batch_size, kept):
    model = AnsweringModel(fails_at("950"))
    cache = cached(model, store, batch_size=batch_size)
    texts = [str(number) for number in range(1000)]
    with pytest.raises(ConnectionError, match="the provider is gone"):
        cache.embed_documents(texts)
    model.answer = fails_at("nothing")
    model.asked.clear()
    assert cache.embed_documents(texts) == [[float(text)] for text in texts]
    assert model.texts == texts[kept:]
    assert cache.batch_size == batch_size


def test_duplicates_are_asked_once(store, model):
    vectors = cached(model, store).embed_documents(["x", "y", "x", "x", "y"])
    assert model.asked == [["x", "y"]]
    assert vectors == [model.vector(text) for text in "xyxxy"]


def test_duplicates_are_asked_once_across_batches(store, model):
    cached(model, store, batch_size=2).embed_documents(["x", "y", "z", "x", "w", "z"])
    assert model.asked == [["x", "y"], ["z", "w"]]


def test_a_query_is_cached_if_asked_for(store, model):
    cache = cached(model, store, query_embedding_cache=True)
    assert cache.embed_query("q") == cache.embed_query("q") == model.vector("q", "query")
    assert asyncio.run(cache.aembed_query("q")) == model.vector("q", "query")
    assert model.queries == ["q"]


def test_a_query_is_not_cached_by_default(model):
    cache = cached(model, "memory://")
    cache.embed_query("q")
    assert cache.embed_query("q") == model.vector("q", "query")
    assert model.queries == ["q", "q"]
    assert cache.query_embedding_store is None
    assert not list(cache.document_embedding_store.yield_keys())


def test_a_query_never_gets_a_documents_vector(store, model):
    cache = cached(model, store, query_embedding_cache=True)
    cache.embed_documents(["same"])
    assert cache.embed_query("same") == model.vector("same", "query")
    assert cache.embed_documents(["same"]) == [model.vector("same")]
    assert (model.texts, model.queries) == (["same"], ["same"])


@pytest.mark.parametrize("other", [SQLiteByteStore, lambda path: f"sqlite:///{path}"])
def test_queries_may_have_a_store_of_their_own(tmp_path, model, other):
    cache = cached(model, "memory://", query_embedding_cache=other(tmp_path / "queries.db"))
    for _ in range(2):
        assert cache.embed_documents(["same"]) == [model.vector("same")]
        assert cache.embed_query("same") == model.vector("same", "query")
    assert (model.texts, model.queries) == (["same"], ["same"])
    assert len(list(cache.document_embedding_store.yield_keys())) == 1
    assert len(list(cache.query_embedding_store.yield_keys())) == 1


def test_a_query_and_a_document_opened_apart_in_one_place_stay_apart(tmp_path, model):
    cache = cached(
        model,
        LocalFileStore(tmp_path),
        query_embedding_cache=LocalFileStore(tmp_path),
    )
    for _ in range(2):
        assert cache.embed_documents(["same"]) == [model.vector("same")]
        assert cache.embed_query("same") == model.vector("same", "query")
    assert (model.texts, model.queries) == (["same"], ["same"])


@pytest.mark.parametrize("namespace", ["", "shared"])
def test_models_that_share_a_namespace_never_get_each_others_vectors(store, warned, namespace):
    models = [CountingModel("one", 8), CountingModel("two", 8), CountingModel("three", 1536)]
    for _ in range(3):
        for model in models:
            cache = cached(model, store, namespace=namespace)
            assert cache.embed_documents(["a", "b"]) == [model.vector("a"), model.vector("b")]
    assert [model.asked for model in models] == [[["a", "b"]]] * 3


def test_a_model_changed_after_construction_never_gets_the_old_vectors(model):
    cache = cached(model, "memory://")
    old = cache.embed_documents(["a"])
    model.model = "changed"
    new = cache.embed_documents(["a"])
    assert new == [model.vector("a")] != old
    cache.underlying_embeddings = other = CountingModel("other")
    assert cache.embed_documents(["a"]) == [other.vector("a")]
    assert cache.underlying_embeddings is other


@pytest.mark.parametrize("namespace", ["nomic-embed-text:latest", "a/b:c/", "模型", "/abs", "../up"])
def test_a_colon_in_the_namespace_works(tmp_path, model, namespace):
    for _ in range(2):
        cache = cached(model, LocalFileStore(tmp_path / "root"), namespace=namespace)
        assert cache.embed_documents(["a"]) == [model.vector("a")]
    assert model.asked == [["a"]]
    assert list(tmp_path.iterdir()) == [tmp_path / "root"]


def test_a_key_that_langchains_own_store_refuses_is_told_and_breaks_nothing(
    tmp_path, model, caplog
):
    cache = cached(model, LangChainLocalFileStore(tmp_path), namespace="model:latest")
    assert cache.embed_documents(["a"]) == [model.vector("a")]
    assert "LocalFileStore refused a key" in caplog.text


@pytest.mark.parametrize(
    "make",
    [
        LocalFileStore,
        LangChainLocalFileStore,
        lambda path: f"file:///{path}",
        lambda path: StoreByteStore(f"file:///{path}"),
    ],
)
def test_a_byte_store_given_to_the_constructor_gets_no_texts_as_names(
    tmp_path, model, warned, make
):
    text = "a text / with what no file name holds"
    for _ in range(2):
        cache = CacheBackedEmbeddings(model, make(tmp_path))
        assert cache.embed_documents([text]) == [model.vector(text)]
    assert model.asked == [[text]]
    assert not any("text" in name for name in files_in(tmp_path))


def test_no_warning_where_there_is_a_namespace(model, no_warning_yet):
    cached(model, "memory://", namespace="ns")
    cached(model, "memory://", namespace="", key_encoder=str.upper)


@pytest.mark.parametrize("key_encoder", ["sha1", "blake2b", "sha256", "sha512"])
def test_a_missing_namespace_is_warned_about_once(model, no_warning_yet, key_encoder):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            cached(model, "memory://", namespace="", key_encoder=key_encoder)
            CacheBackedEmbeddings(model, InMemoryByteStore())
    (warning,) = caught
    assert warning.category is UserWarning
    assert "Pass namespace=" in str(warning.message)
    assert ("SHA-1" in str(warning.message)) == (key_encoder == "sha1")


@pytest.mark.parametrize("make", [CacheBackedEmbeddings.from_bytes_store, CacheBackedEmbeddings])
def test_the_warning_points_at_the_caller(model, no_warning_yet, make):
    with pytest.warns(UserWarning) as caught:
        make(model, "memory://")
    assert caught[0].filename == __file__


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


def test_keys_are_found_by_prefix(tmp_path, model):
    store = LocalFileStore(tmp_path)
    cached(model, store, namespace="one").embed_documents(["a", "b"])
    cached(model, store, namespace="two").embed_documents(["a"])
    assert len(list(store.yield_keys(prefix="one"))) == 2
    assert len(list(store.yield_keys(prefix="two"))) == 1


async def test_nothing_is_decoded_on_the_event_loop(tmp_path, model, monkeypatch):
    texts = [str(number) for number in range(5)]
    classic = LangChainLocalFileStore(tmp_path)
    cache = cached(model, classic)
    keys = cache.document_embedding_store.name_keys(texts)
    classic.mset([(key, json.dumps(model.vector(t)).encode()) for key, t in zip(keys, texts)])
    seen = []
    loads, lists = json.loads, wrapper._lists

    def noting(function):
        def call(*arguments):
            seen.append(threading.get_ident())
            return function(*arguments)

        return call

    monkeypatch.setattr(json, "loads", noting(loads))
    monkeypatch.setattr(wrapper, "_lists", noting(lists))
    assert await cache.aembed_documents(texts) == [model.vector(text) for text in texts]
    assert len(seen) == len(texts) + 1
    assert threading.get_ident() not in seen


class ColouredStore(LangChainInMemoryByteStore):
    """Note which colour of verb is used."""

    def __init__(self):
        super().__init__()
        self.verbs = []

    def mget(self, keys):
        self.verbs.append("mget")
        return super().mget(keys)

    def mset(self, pairs):
        self.verbs.append("mset")
        super().mset(pairs)

    async def amget(self, keys):
        self.verbs.append("amget")
        return LangChainInMemoryByteStore.mget(self, keys)

    async def amset(self, pairs):
        self.verbs.append("amset")
        LangChainInMemoryByteStore.mset(self, pairs)


async def test_async_calls_use_the_async_verbs_of_model_and_store(model):
    store = ColouredStore()
    cache = cached(model, store, query_embedding_cache=True)
    await cache.aembed_documents(["a"])
    await cache.aembed_query("a")
    assert set(store.verbs) == {"amget", "amset"}
    assert model.colours == ["async", "async"]
    store.verbs.clear()
    await asyncio.to_thread(cache.embed_documents, ["b"])
    assert set(store.verbs) == {"mget", "mset"}


BAD_ANSWERS = {
    "too few": lambda texts: [[1.0]] * (len(texts) - 1),
    "too many": lambda texts: [[1.0]] * (len(texts) + 1),
    "nothing": lambda texts: None,
    "empty vectors": lambda texts: [[] for _ in texts],
    "different lengths": lambda texts: [[1.0] * (n + 1) for n in range(len(texts))],
    "NaN": lambda texts: [[1.0, float("nan")] for _ in texts],
    "infinity": lambda texts: [[1.0, float("-inf")] for _ in texts],
    "None inside": lambda texts: [[1.0, None] for _ in texts],
    "text": lambda texts: [["1.0", "2.0"] for _ in texts],
    "flat": lambda texts: [1.0 for _ in texts],
}


@pytest.mark.parametrize("fault", BAD_ANSWERS)
def test_a_wrong_number_of_vectors_or_no_numbers_is_an_error(store, fault):
    model = AnsweringModel(BAD_ANSWERS[fault])
    cache = cached(model, store)
    with pytest.raises(AnswerError):
        cache.embed_documents(["a", "b", "c"])
    with pytest.raises(AnswerError):
        asyncio.run(cache.aembed_documents(["a", "b", "c"]))
    assert not list(cache.document_embedding_store.yield_keys())
    model.answer = lambda texts: [[1.0]] * len(texts)
    assert cache.embed_documents(["a", "b", "c"]) == [[1.0]] * 3


@pytest.mark.parametrize("queries", [False, True])
@pytest.mark.parametrize("answer", [None, [], [[1.0]], [float("nan")], ["a"], 1.0])
def test_a_querys_answer_is_checked_too(answer, queries):
    model = AnsweringModel(lambda texts: [answer])
    cache = cached(model, "memory://", query_embedding_cache=queries)
    for call in (cache.embed_query, lambda text: asyncio.run(cache.aembed_query(text))):
        with pytest.raises(AnswerError):
            call("q")
    assert not list(cache.document_embedding_store.yield_keys())


def test_the_models_attributes_are_reachable(model):
    cache = cached(model, "memory://")
    assert (cache.model, cache.dims_given) == ("counting", 8)
    assert cache.underlying_embeddings is model
    assert cache.vector("a") == model.vector("a")
    with pytest.raises(AttributeError, match="no_such_attribute"):
        cache.no_such_attribute  # noqa: B018


HARD_TEXTS = ["", "\ud800", "\udfff\ud800", "\0", "e\u0301", "\u00e9", " ", "x" * 2**20, "\U0001f600"]


def test_lone_surrogates_and_other_hard_texts_are_kept(store, model):
    cache = cached(model, store, query_embedding_cache=True)
    for _ in range(2):
        assert cache.embed_documents(HARD_TEXTS) == [model.vector(text) for text in HARD_TEXTS]
        assert cache.embed_query("\ud800") == model.vector("\ud800", "query")
    assert model.asked == [HARD_TEXTS]


# Input that cannot be used


@pytest.mark.parametrize("texts", [["a", 3], [None], [b"bytes"], [["a"]], "abc", b"abc", 3, None])
def test_what_is_not_a_list_of_strings_is_refused(model, texts):
    cache = cached(model, "memory://")
    with pytest.raises(InputTypeError):
        cache.embed_documents(texts)
    with pytest.raises(InputTypeError):
        asyncio.run(cache.aembed_documents(texts))
    assert not model.asked


@pytest.mark.parametrize("queries", [False, True])
@pytest.mark.parametrize("text", [None, 3, b"bytes", ["a"]])
def test_a_query_that_is_not_a_string_is_refused(model, queries, text):
    cache = cached(model, "memory://", query_embedding_cache=queries)
    for call in (cache.embed_query, lambda text: asyncio.run(cache.aembed_query(text))):
        with pytest.raises(InputTypeError, match="give one string"):
            call(text)
    assert not model.queries


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"key_encoder": "md5"}, "choose one of blake2b, sha1, sha256, sha512"),
        ({"key_encoder": 3}, "pass a function"),
        ({"key_encoder": str.upper, "namespace": "ns"}, "leave it out"),
        ({"namespace": None}, "give a string"),
        ({"batch_size": 0}, "at least 1"),
        ({"batch_size": -1}, "at least 1"),
        ({"query_embedding_cache": 3}, "is not a store"),
        ({"query_embedding_cache": None}, "is not a store"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused(model, options, problem):
    with pytest.raises(ValueError, match=problem) as caught:
        cached(model, "memory://", **options)
    assert isinstance(caught.value, InputError)


@pytest.mark.parametrize("store", [3, None, {}, "cache.db", "nowhere://"])
def test_a_store_that_is_none_is_refused(model, store):
    with pytest.raises(InputError):
        cached(model, store)
    with pytest.raises(InputError):
        CacheBackedEmbeddings(model, store)


@pytest.mark.parametrize("key", [None, 3, "", b"key"])
def test_a_key_encoder_must_give_strings(model, key):
    cache = cached(model, "memory://", namespace="", key_encoder=lambda text: key)
    with pytest.raises(InputTypeError, match="key_encoder returned"):
        cache.embed_documents(["a"])


def test_a_key_encoder_that_gives_one_key_for_all_is_harmless(store, model):
    cache = cached(model, store, namespace="", key_encoder=lambda text: "same")
    for texts in (["a"], ["a", "b"], ["b", "c"], ["c", "a"]):
        for _ in range(2):
            assert cache.embed_documents(texts) == [model.vector(text) for text in texts]


# Stores that fail, callers at once


class BrokenStore(LangChainInMemoryByteStore):
    def mget(self, keys):
        raise OSError("the disk is gone")

    def mset(self, pairs):
        raise OSError("the disk is gone")


class ShortStore(LangChainInMemoryByteStore):
    def mget(self, keys):
        return super().mget(keys)[:-1]


@pytest.mark.parametrize("make", [BrokenStore, ShortStore])
def test_a_broken_store_never_breaks_a_call(model, make, caplog):
    cache = cached(model, make(), query_embedding_cache=True)
    assert cache.embed_documents(["a"]) == [model.vector("a")]
    assert cache.embed_query("q") == model.vector("q", "query")
    assert asyncio.run(cache.aembed_documents(["a"])) == [model.vector("a")]
    assert "the store failed" in caplog.text


@pytest.mark.parametrize("value", ["text", 3, [1.0, 2.0], object(), bytearray(b"[1.0]"), {}])
def test_a_value_of_another_kind_is_a_miss(model, value):
    store = LangChainInMemoryStore()
    cache = cached(model, store)
    cache.embed_documents(["a"])
    (key,) = store.yield_keys()
    store.mset([(key, value)])
    assert cache.embed_documents(["a", "b"]) == [model.vector("a"), model.vector("b")]


@pytest.mark.parametrize("make", [InMemoryByteStore, LangChainInMemoryByteStore, MemoryStore])
def test_threads_that_ask_for_the_same_share_one_call(make):
    gate = threading.Barrier(16)
    model, store = CountingModel(), make()

    def ask(_):
        gate.wait()
        return cached(model, store).embed_documents(["a", "b"])

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(16)))
    assert answers == [[model.vector("a"), model.vector("b")]] * 16
    assert sorted(model.texts) == ["a", "b"]


async def test_tasks_that_ask_for_the_same_share_one_call(store, model):
    cache = cached(model, store, query_embedding_cache=True)
    answers = await asyncio.gather(*(cache.aembed_documents(["a", "b"]) for _ in range(16)))
    queries = await asyncio.gather(*(cache.aembed_query("q") for _ in range(16)))
    assert answers == [[model.vector("a"), model.vector("b")]] * 16
    assert queries == [model.vector("q", "query")] * 16
    assert (sorted(model.texts), model.queries) == (["a", "b"], ["q"])


# The constructor, and the stores it shows


@pytest.mark.parametrize("shared", [False, True])
def test_a_store_of_lists_keeps_texts_and_lists(model, shared):
    documents = LangChainInMemoryStore()
    queries = documents if shared else LangChainInMemoryStore()
    cache = CacheBackedEmbeddings(model, documents, query_embedding_store=queries)
    for _ in range(2):
        assert cache.embed_documents(["a", "b"]) == [model.vector("a"), model.vector("b")]
        assert asyncio.run(cache.aembed_documents(["a"])) == [model.vector("a")]
        assert cache.embed_query("a") == model.vector("a", "query")
    assert (model.texts, model.queries) == (["a", "b"], ["a"])
    assert documents.mget(["a", "b"]) == [model.vector("a"), model.vector("b")]
    assert cache.document_embedding_store is documents
    assert cache.query_embedding_store is queries


def test_what_is_in_a_store_of_lists_is_used(model):
    documents = LangChainInMemoryStore()
    documents.mset([("a", [1.0, 2.0]), ("b", "nonsense")])
    model.dims_given = 2
    cache = CacheBackedEmbeddings(model, documents)
    assert cache.embed_documents(["a", "b"]) == [[1.0, 2.0], model.vector("b")]
    assert model.asked == [["b"]]


def test_the_store_it_shows_goes_from_text_to_vector(store, model):
    cache = cached(model, store)
    cache.embed_documents(["a"])
    shown = cache.document_embedding_store
    assert isinstance(shown, EmbeddingStore)
    assert shown.mget(["a", "b", "a"]) == [model.vector("a"), None, model.vector("a")]
    assert shown.mget([]) == []
    shown.mset([("b", [0.5] * 8)])
    assert cache.embed_documents(["b"]) == [[0.5] * 8]
    shown.mdelete(["a", "missing"])
    assert shown.mget(["a", "b"]) == [None, [0.5] * 8]
    assert len(list(shown.yield_keys(prefix="ns"))) == 1
    assert model.asked == [["a"]]


async def test_the_store_it_shows_has_both_colours(store, model):
    shown = cached(model, store).document_embedding_store
    await shown.amset([("a", [0.5] * 8), ("b", [0.25] * 8)])
    await shown.amdelete(["b"])
    assert await shown.amget(["a", "b"]) == [[0.5] * 8, None]
    assert len([key async for key in shown.ayield_keys()]) == 1
    with pytest.raises(AnswerError):
        await shown.amset([("c", [float("nan")] * 8)])


def test_the_store_it_shows_leaves_other_models_alone(store, warned):
    one, two = CountingModel("one"), CountingModel("two")
    cached(one, store).embed_documents(["a"])
    shown = cached(two, store).document_embedding_store
    assert shown.mget(["a"]) == [None]
    shown.mset([("a", [0.5] * 8)])
    shown.mdelete(["a"])
    assert shown.mget(["a"]) == [None]
    assert cached(one, store).embed_documents(["a"]) == [one.vector("a")]
    assert len(one.asked) == 1


def test_the_store_it_shows_serves_another_cache(model):
    first = cached(model, "memory://", query_embedding_cache=True)
    first.embed_documents(["a"])
    first.embed_query("a")
    again = CacheBackedEmbeddings(
        model,
        first.document_embedding_store,
        query_embedding_store=first.document_embedding_store,
    )
    assert again.embed_documents(["a"]) == [model.vector("a")]
    assert again.embed_query("a") == model.vector("a", "query")
    assert (model.texts, model.queries) == (["a"], ["a"])
    other = CountingModel("other")
    cache = CacheBackedEmbeddings(other, first.document_embedding_store)
    assert cache.embed_documents(["a"]) == [other.vector("a")]


@given(
    calls=st.lists(
        st.tuples(
            st.sampled_from(["one", "two"]),
            st.booleans(),
            st.lists(st.sampled_from(["", "a", "b", "a-query", "\ud800"]), max_size=6),
        ),
        max_size=8,
    )
)
@settings(deadline=None, max_examples=60)
def test_any_sequence_of_calls_gives_what_asking_one_by_one_gives(calls):
    store = MemoryStore()
    models = {"one": CountingModel("one", 4), "two": CountingModel("two", 6)}
    wanted = {name: set() for name in models}
    for name, is_query, texts in calls:
        model = models[name]
        cache = cached(model, store, query_embedding_cache=True, batch_size=2)
        if is_query:
            assert [cache.embed_query(t) for t in texts] == [model.vector(t, "query") for t in texts]
        else:
            assert cache.embed_documents(texts) == [model.vector(text) for text in texts]
            wanted[name].update(texts)
    for name, model in models.items():
        assert sorted(model.texts) == sorted(wanted[name])
