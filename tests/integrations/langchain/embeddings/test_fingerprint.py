"""What tells models apart, and what does not."""

import json
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from langchain_core.embeddings import (
    DeterministicFakeEmbedding,
    FakeEmbeddings,
)
from pydantic import BaseModel, Field, SecretStr

from askonce.core.keys import encode
from askonce.integrations.fingerprint import Fingerprint, fingerprint


class Model(BaseModel):
    """A model in the manner of LangChain's provider packages."""

    model: str = "large"
    deployment: str | None = None
    dimensions: int | None = None
    api_key: SecretStr | None = None
    hf_token: str | None = None
    base_url: str | None = None
    client: Any = None
    chunk_size: int = 1000
    max_retries: int = 2
    request_timeout: float | None = None
    default_headers: dict[str, str] | None = None
    show_progress_bar: bool = False
    cache_folder: str | None = None
    device: str = "cpu"
    normalize: bool = True
    num_ctx: int | None = None
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    encode_kwargs: dict[str, Any] = Field(default_factory=dict)
    allowed: set[str] = set()


def same(one: object, other: object) -> bool:
    return fingerprint(one) == fingerprint(other)


@pytest.mark.parametrize(
    "setting",
    [
        {"model": "small"},
        {"deployment": "mine"},
        {"dimensions": 256},
        {"base_url": "https://elsewhere/v1"},
        {"normalize": False},
        {"num_ctx": 128},
        {"model_kwargs": {"prompt": "query: "}},
        {"encode_kwargs": {"normalize_embeddings": True}},
        {"allowed": {"a"}},
    ],
)
def test_a_setting_that_changes_vectors_counts(setting):
    assert not same(Model(), Model(**setting))
    assert same(Model(**setting), Model(**setting))


@pytest.mark.parametrize(
    "setting",
    [
        {"api_key": SecretStr("sk-secret")},
        {"hf_token": "sk-secret"},
        {"client": object()},
        {"chunk_size": 16},
        {"max_retries": 9},
        {"request_timeout": 3.0},
        {"default_headers": {"authorization": "sk-secret"}},
        {"show_progress_bar": True},
        {"cache_folder": "/tmp"},
        {"device": "cuda"},
        {"model_kwargs": {"device": "cuda", "token": "sk-secret"}},
        {"encode_kwargs": {"batch_size": 8}},
        {"model": "large"},
        {"normalize": True},
        {"model_kwargs": {}},
        {"dimensions": None},
    ],
)
def test_a_setting_that_changes_no_vector_does_not_count(setting):
    assert same(Model(), Model(**setting))


def test_no_secret_is_in_it():
    model = Model(
        api_key=SecretStr("sk-secret"),
        hf_token="sk-secret",
        base_url="https://user:sk-secret@host/v1",
        default_headers={"x": "sk-secret"},
        model_kwargs={"api_key": "sk-secret", "auth": {"a": "sk-secret"}, "kept": 1},
    )
    found = fingerprint(model)
    assert "secret" not in json.dumps([found.model, found.parameters])
    assert found.parameters == {"base_url": "https://host/v1", "model_kwargs": {"kept": 1}}
    assert "secret" not in fingerprint(SimpleNamespace(model="http://a:secret@b/c")).model


@pytest.mark.parametrize(
    "name", ["model", "model_name", "model_id", "deployment", "repo_id", "model_path"]
)
def test_a_name_is_found_on_any_object(name):
    found = fingerprint(SimpleNamespace(**{name: "large", "other": 3}))
    assert found == Fingerprint("large", {}, None)


def test_a_name_must_be_a_string():
    assert fingerprint(SimpleNamespace(model=object(), model_id="id")).model == "id"
    assert fingerprint(SimpleNamespace(model="", model_id="id")).model == "id"


def test_without_a_name_it_is_the_class():
    assert fingerprint(SimpleNamespace()) == Fingerprint("types.SimpleNamespace", {}, None)
    assert fingerprint(MagicMock()).model == "unittest.mock.MagicMock"


@pytest.mark.parametrize("make", [FakeEmbeddings, DeterministicFakeEmbedding])
def test_dimensions_tell_models_apart(make):
    assert not same(make(size=8), make(size=16))
    assert fingerprint(make(size=8)).dimensions == 8


def test_counters_and_logs_of_a_plain_class_do_not_count():
    model = SimpleNamespace(model="large", calls=0, log=[], last="")
    before = fingerprint(model)
    model.calls, model.last = 3, "text"
    model.log.append("text")
    assert fingerprint(model) == before


def test_a_property_that_fails_is_no_name():
    class Failing:
        model_id = "id"

        @property
        def model(self) -> str:
            raise RuntimeError("not loaded yet")

    assert fingerprint(Failing()).model == "id"


def test_whatever_is_in_it_can_be_encoded():
    settings = {"a": {"b": [1, None, {"c": object()}, b"bytes", {1, 2}]}, "d": float("nan"), "e": ()}
    encode(fingerprint(Model(model_kwargs=settings)).parameters)
