"""Fixtures: stores of every kind, and a model that counts."""

import pytest
from langchain_classic.storage import LocalFileStore as LangChainLocalFileStore
from langchain_core.stores import InMemoryByteStore as LangChainInMemoryByteStore

import askonce.integrations.langchain.embeddings as wrapper
from askonce.integrations.langchain import InMemoryByteStore, LocalFileStore, SQLiteByteStore
from askonce.stores.memory import MemoryStore
from tests.integrations.langchain.embedding_models import CountingModel

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
