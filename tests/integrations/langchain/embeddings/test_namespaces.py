"""Models, names and keys that share a store and nothing else."""

import warnings

import pytest
from langchain_classic.storage import LocalFileStore as LangChainLocalFileStore

from askonce.integrations.langchain import (
    CacheBackedEmbeddings,
    InMemoryByteStore,
    LocalFileStore,
    StoreByteStore,
)
from tests.integrations.langchain.embedding_models import CountingModel, cached, files_in


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


def test_keys_are_found_by_prefix(tmp_path, model):
    store = LocalFileStore(tmp_path)
    cached(model, store, namespace="one").embed_documents(["a", "b"])
    cached(model, store, namespace="two").embed_documents(["a"])
    assert len(list(store.yield_keys(prefix="one"))) == 2
    assert len(list(store.yield_keys(prefix="two"))) == 1
