"""Pages of SQLite files: small ones for answers, large ones for vectors."""

import contextlib
import sqlite3

import numpy as np
import pytest

from askonce import EmbeddingCache, InputError, open_store
from askonce.gateway.config import Config
from askonce.gateway.state import State
from askonce.http import HTTPCache
from askonce.observe.prometheus import Metrics
from askonce.stores import for_answers
from prometheus_client import CollectorRegistry


def page_size(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA page_size").fetchone()[0]


@pytest.mark.parametrize(
    ("told", "size"),
    [("", 32768), ("?page_size=512", 512), ("?page_size=64KiB", 65536), ("?page_size=8192", 8192)],
)
def test_a_new_file_has_the_pages_that_its_url_names(tmp_path, told, size):
    with open_store(f"sqlite:///{tmp_path}/store.db{told}") as store:
        store.write({"a/1": bytes(100_000)})
        assert store.leases.claim(["a/2"]) == ["a/2"]
        assert store.read(["a/1"]) == [bytes(100_000)]
    assert page_size(tmp_path / "store.db") == size


@pytest.mark.parametrize("told", ["0", "1000", "256", "131072", "4KB", "-4096", "x", ""])
def test_what_is_no_size_of_pages_is_refused(tmp_path, told):
    with pytest.raises(InputError, match="page_size|size"):
        open_store(f"sqlite:///{tmp_path}/store.db?page_size={told}")
    assert list(tmp_path.iterdir()) == []


def test_a_file_keeps_its_own_pages(tmp_path):
    url = f"sqlite:///{tmp_path}/store.db"
    open_store(url).close()
    with open_store(f"{url}?page_size=4096") as store:
        store.write({"a/1": b"x"})
        store.vacuum()
    assert page_size(tmp_path / "store.db") == 32768


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("sqlite:///a.db", "sqlite:///a.db?page_size=4096"),
        ("SQLite:///a.db", "SQLite:///a.db?page_size=4096"),
        ("sqlite:///a.db?max_bytes=2MB", "sqlite:///a.db?max_bytes=2MB&page_size=4096"),
        ("sqlite:///a.db?page_size=65536", None),
        ("sqlite:///a.db?max_bytes=2MB&page_size=512", None),
        ("tiered+sqlite:///a.db?far=redis://x", None),
        ("lmdb:///folder", None),
        ("memory://", None),
        ("no url", None),
    ],
)
def test_only_urls_of_sqlite_are_told_of_answers(url, wanted):
    assert for_answers(url) == (wanted or url)


def test_what_is_no_url_is_told_by_who_opens_it():
    with pytest.raises(InputError, match="not a store URL"):
        open_store(for_answers("sqlite:a.db"))


def test_answers_have_small_pages_and_vectors_large_ones(tmp_path):
    url = f"sqlite:///{tmp_path}"
    HTTPCache(f"{url}/http.db").close()
    told = {
        "cache": {"store": f"{url}/gateway.db"},
        "upstreams": [{"name": "up", "base_url": "http://up.test/v1", "paths": ["/v1/*"]}],
    }
    State(Config.model_validate(told), Metrics(CollectorRegistry())).store.close()

    def embed(texts):
        return np.ones((len(texts), 3))

    EmbeddingCache(embed, model="m", store=f"{url}/vectors.db").close()
    sizes = {path.stem: page_size(path) for path in tmp_path.glob("*.db")}
    assert sizes == {"http": 4096, "gateway": 4096, "vectors": 32768}
