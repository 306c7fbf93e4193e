"""What LangChain's own classes wrote goes on hitting, and is left as it is."""

import hashlib
import json
import uuid

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_classic.embeddings import CacheBackedEmbeddings as LangChainCache
from langchain_classic.storage import EncoderBackedStore
from langchain_classic.storage import LocalFileStore as LangChainLocalFileStore

from askonce.core import entry
from askonce.integrations.langchain import CacheBackedEmbeddings, LocalFileStore
from askonce.integrations.langchain.key_encoders import ENCODERS, sha1
from tests.integrations.langchain.embedding_models import CountingModel, cached, files_in

TEXTS = ["", "a", "é", "日本語", "x" * 10_000, "a\nb", "\U0001f600"]
NAMESPACES = ["ns", "text-embedding-3-small", "org/model/v1/", "org/model-", ".hidden/", "v_1." * 40]
OPENERS = {
    "ours": LocalFileStore,
    "langchains": LangChainLocalFileStore,
}


def write_with_langchain(folder, model, **options):
    """Let LangChain embed documents into a folder, and give what it answered."""
    store = LangChainLocalFileStore(folder)
    return LangChainCache.from_bytes_store(model, store, **options).embed_documents(TEXTS)


@pytest.mark.filterwarnings("ignore:Using default key encoder:UserWarning")
@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize("namespace", NAMESPACES)
@pytest.mark.parametrize("key_encoder", ENCODERS)
def test_a_directory_of_langchains_hits_and_stays_as_it_is(
    tmp_path, opener, namespace, key_encoder
):
    if len(namespace) > 100 and key_encoder in {"sha512", "blake2b"}:
        namespace = namespace[:100]
    options = {"namespace": namespace, "key_encoder": key_encoder}
    theirs = write_with_langchain(tmp_path, CountingModel(), **options)
    before = files_in(tmp_path)
    assert len(before) == len(TEXTS)
    assert all(content.startswith(b"[") for content in before.values())
    model = CountingModel()
    cache = cached(model, OPENERS[opener](tmp_path), **options)
    assert cache.embed_documents(TEXTS) == theirs
    assert cache.embed_documents(TEXTS[::-1]) == theirs[::-1]
    assert not model.asked
    assert files_in(tmp_path) == before


@pytest.mark.filterwarnings("ignore:Using default key encoder:UserWarning")
@pytest.mark.parametrize("namespace", ["ns", "org/model/v1/"])
def test_a_file_url_reads_a_directory_of_langchains(tmp_path, namespace):
    theirs = write_with_langchain(tmp_path, CountingModel(), namespace=namespace)
    model = CountingModel()
    assert cached(model, f"file:///{tmp_path}", namespace=namespace).embed_documents(TEXTS) == theirs
    assert not model.asked


async def test_a_directory_of_langchains_hits_in_async(tmp_path):
    options = {"namespace": "ns", "key_encoder": "sha256"}
    theirs = write_with_langchain(tmp_path, CountingModel(), **options)
    model = CountingModel()
    cache = cached(model, LocalFileStore(tmp_path), **options)
    assert await cache.aembed_documents(TEXTS) == theirs
    assert not model.asked


def test_a_key_encoder_of_ones_own_hits_too(tmp_path):
    def encode(text):
        return "mine-" + hashlib.md5(text.encode()).hexdigest()

    theirs = write_with_langchain(tmp_path, CountingModel(), key_encoder=encode)
    model = CountingModel()
    cache = cached(model, LocalFileStore(tmp_path), namespace="", key_encoder=encode)
    assert cache.embed_documents(TEXTS) == theirs
    assert not model.asked


def test_what_is_new_joins_what_is_there(tmp_path):
    options = {"namespace": "ns", "key_encoder": "sha256"}
    write_with_langchain(tmp_path, CountingModel(), **options)
    before = files_in(tmp_path)
    model = CountingModel()
    cache = cached(model, LocalFileStore(tmp_path), **options)
    assert cache.embed_documents(["new", *TEXTS]) == [model.vector(t) for t in ["new", *TEXTS]]
    assert model.asked == [["new"]]
    after = files_in(tmp_path)
    assert before.items() < after.items()
    (added,) = after.keys() - before.keys()
    assert added == "ns" + hashlib.sha256(b"new").hexdigest()
    assert after[added].startswith(entry.MAGIC)


def test_a_list_of_ten_thousand_bits_of_floats_comes_back_to_the_last(tmp_path):
    numbers = np.random.default_rng(0).standard_normal(500).tolist() + [5e-324, 1e308, -0.0, 3]
    key = "ns" + hashlib.sha256(b"a").hexdigest()
    LangChainLocalFileStore(tmp_path).mset([(key, json.dumps(numbers).encode())])
    cache = cached(CountingModel(), LocalFileStore(tmp_path), key_encoder="sha256")
    (vector,) = cache.embed_documents(["a"])
    assert [number.hex() for number in vector] == [float(number).hex() for number in numbers]


@pytest.mark.parametrize("others_first", [True, False])
def test_an_entry_of_other_dimensions_is_neither_served_nor_overwritten(tmp_path, others_first):
    """LangChain mixed two models in a folder without a namespace; most texts are another's."""
    other, model = CountingModel("other", 3), CountingModel("mine", 5)
    write_with_langchain(tmp_path, other, key_encoder="sha256")
    own = "b", "c"
    store = LangChainLocalFileStore(tmp_path)
    LangChainCache.from_bytes_store(model, store, key_encoder="sha256").embed_documents(own)
    before = files_in(tmp_path)
    model.asked.clear()
    texts = [*TEXTS, *own] if others_first else [*own, *TEXTS]
    options = {"namespace": "", "key_encoder": lambda text: ENCODERS["sha256"](text)}
    for _ in range(2):
        for _ in range(2):
            cache = cached(model, LocalFileStore(tmp_path), **options)
            vectors = cache.embed_documents(["new", *texts])
            assert vectors == [model.vector(text) for text in ["new", *texts]]
        assert before.items() < files_in(tmp_path).items()
    asked = len(model.texts)
    cached(model, LocalFileStore(tmp_path), **options).embed_documents(["new", *texts])
    assert len(model.texts) == asked
    assert len(set(model.texts)) == len(model.texts)


def test_other_dimensions_than_the_model_declares_are_never_served(tmp_path):
    other = CountingModel("other", 3)
    write_with_langchain(tmp_path, other, key_encoder="sha256")
    before = files_in(tmp_path)
    model = CountingModel("mine", 5)
    model.dimensions = 5
    options = {"namespace": "", "key_encoder": ENCODERS["sha256"]}
    for _ in range(2):
        cache = cached(model, LocalFileStore(tmp_path), **options)
        assert cache.embed_documents(TEXTS) == [model.vector(text) for text in TEXTS]
    assert model.asked == [TEXTS]
    assert before.items() < files_in(tmp_path).items()


def test_a_query_in_a_shared_store_never_gets_langchains_document(tmp_path):
    options = {"namespace": "ns", "key_encoder": "sha256"}
    write_with_langchain(tmp_path, CountingModel(), **options)
    model = CountingModel()
    cache = cached(model, LocalFileStore(tmp_path), query_embedding_cache=True, **options)
    assert cache.embed_query("a") == model.vector("a", "query")
    assert cache.embed_documents(["a"]) == [model.vector("a")]
    assert not model.asked


def test_queries_that_langchain_kept_apart_hit(tmp_path):
    options = {"namespace": "ns", "key_encoder": "sha256"}
    first = CountingModel()
    theirs = LangChainCache.from_bytes_store(
        first,
        LangChainLocalFileStore(tmp_path / "documents"),
        query_embedding_cache=LangChainLocalFileStore(tmp_path / "queries"),
        **options,
    ).embed_query("a")
    model = CountingModel()
    cache = cached(
        model,
        LocalFileStore(tmp_path / "documents"),
        query_embedding_cache=LocalFileStore(tmp_path / "queries"),
        **options,
    )
    assert cache.embed_query("a") == theirs
    assert not model.queries


def test_an_encoder_backed_store_of_langchains_serves_the_constructor(tmp_path):
    def encoded():
        return EncoderBackedStore(
            LangChainLocalFileStore(tmp_path),
            lambda text: hashlib.sha256(text.encode()).hexdigest(),
            lambda vector: json.dumps(vector).encode(),
            json.loads,
        )

    first, model = CountingModel(), CountingModel()
    theirs = LangChainCache(first, encoded()).embed_documents(TEXTS)
    assert CacheBackedEmbeddings(model, encoded()).embed_documents([*TEXTS, "new"])[:-1] == theirs
    assert model.asked == [["new"]]
    assert LangChainCache(first, encoded()).embed_documents(["new"]) == [model.vector("new")]
    assert len(first.asked) == 1


CONTENTS = ["{}", "[]", "[[1.0]]", '["1.0"]', "[NaN, 1]", "[1e999]", "[true]", "3", "[" * 100_000]


@pytest.mark.parametrize("content", CONTENTS)
def test_a_file_that_is_no_list_of_numbers_is_a_miss_that_heals(tmp_path, content):
    key = "ns" + hashlib.sha256(b"a").hexdigest()
    LangChainLocalFileStore(tmp_path).mset([(key, content.encode())])
    model = CountingModel()
    for _ in range(2):
        cache = cached(model, LocalFileStore(tmp_path), key_encoder="sha256")
        assert cache.embed_documents(["a"]) == [model.vector("a")]
    assert model.asked == [["a"]]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_the_default_key_is_the_uuid_of_the_sha1(text):
    digest = hashlib.sha1(text.encode()).hexdigest()
    assert sha1(text) == str(uuid.uuid5(uuid.UUID(int=1985), digest))
