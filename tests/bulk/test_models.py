"""Models and rates as the command line writes them."""

import pytest

from askonce import InputError
from askonce.bulk.models import Rate, Wishes, open_model


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("500rpm", Rate(500, None)),
        ("1.5Mtpm", Rate(None, 1.5e6)),
        ("3krpm, 200000tpm", Rate(3000, 200_000)),
    ],
)
def test_rates(text, rate):
    assert Rate.of(text) == rate


@pytest.mark.parametrize("text", ["", "500", "rpm", "-1rpm", "0tpm", "1rps", "1rpm;2tpm"])
def test_rates_that_are_none(text):
    with pytest.raises(InputError, match="is no rate; write requests or tokens a minute"):
        Rate.of(text)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "is no model; write one of openai:NAME, onnx:DIR"),
        ("gpt", "is no model"),
        ("openai:", "is no model"),
        ("onnx:nowhere", "has no model.onnx"),
        ("model2vec:/nowhere", "cannot be loaded"),
        ("python:nowhere:f", "write python:MODULE:FUNCTION"),
        ("python:json", "write python:MODULE:FUNCTION"),
        ("python:json:nothing", "write python:MODULE:FUNCTION"),
        ("python:string:digits", "is no function"),
    ],
)
def test_models_that_are_none(spec, message, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match=message):
        open_model(spec, Wishes())


@pytest.mark.parametrize("wishes", [Wishes(base_url="http://x"), Wishes(rate=Rate(1))])
def test_wishes_that_only_openai_grants(wishes):
    with pytest.raises(InputError, match="are for models openai:NAME"):
        open_model("python:tests.bulk.models:embed", wishes)


def test_a_key_that_is_missing(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ADMIN_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match="OPENAI_API_KEY"):
        open_model("openai:text-embedding-3-small", Wishes())
    model = open_model("openai:text-embedding-3-small", Wishes(only_plans=True))
    assert model.price == pytest.approx(0.02e-6)
    model.embedder.close()
