"""An embedder for a transformer exported to ONNX."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from askonce.core.keys import Identity
from askonce.errors import AnswerError, InputError
from askonce.providers.answers import Rows
from askonce.providers.asking import sendable
from askonce.providers.extras import import_extra
from askonce.providers.local.weights import digest_of

_TOKENS_AT_ONCE = 2048
_TEXTS_AT_ONCE = 64


class OnnxEmbedder:
    """Embed texts with a folder that holds `model.onnx` and `tokenizer.json`.

    The mean of the tokens' states, by the attention mask, scaled to length 1; an output that is
    one vector a text already is only scaled. `max_length` is in tokens, `threads` are those of
    one call. A model in eight-bit integers may answer slightly differently with each batch, for
    its scales are those of the batch.

    Raises InputError if the folder lacks a file, MissingExtraError without the libraries.
    """

    dimensions = None

    def __init__(
        self,
        folder: str | Path,
        *,
        model: str | None = None,
        max_length: int = 256,
        threads: int | None = None,
    ) -> None:
        folder = Path(folder)
        for name in ("model.onnx", "tokenizer.json"):
            if not (folder / name).is_file():
                raise InputError(f"{folder} has no {name}; give the folder of an exported model")
        runtime = import_extra("onnxruntime", "onnx", "OnnxEmbedder")
        tokenizers = import_extra("tokenizers", "onnx", "OnnxEmbedder")
        self.model = model or folder.resolve().name
        self.parameters: Identity = {
            "library": "onnx",
            "weights": digest_of(folder),
            "max_length": max_length,
        }
        self._tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(max_length)
        self._tokenizer.no_padding()
        options = runtime.SessionOptions()
        # The arena keeps the memory of the largest batch ever seen.
        options.enable_cpu_mem_arena = False
        options.intra_op_num_threads = threads or 0
        self._session = runtime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = {argument.name for argument in self._session.get_inputs()}
        self._output = self._session.get_outputs()[0].name

    def __call__(self, texts: Sequence[str]) -> Rows:
        """Embed texts: float32 of shape (len(texts), dimensions), in the order of the texts.

        Raises InputTypeError for anything but strings, InputRefusedError for a text that is not
        valid Unicode, AnswerError for a model that does not give vectors of tokens or texts.
        """
        texts = sendable(texts)
        # Texts of like length share a batch, so that little of it is padding.
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        rows: Rows = np.empty((0, 0), np.float32)
        for start in range(0, len(order), _TEXTS_AT_ONCE):
            chunk = order[start : start + _TEXTS_AT_ONCE]
            encodings = self._tokenizer.encode_batch([texts[index] for index in chunk])
            tokens = [np.array(encoding.ids, np.int64) for encoding in encodings]
            size = max(1, _TOKENS_AT_ONCE // max(1, *map(len, tokens)))
            for place in range(0, len(chunk), size):
                vectors = self._run(tokens[place : place + size])
                if not rows.size:
                    rows = np.empty((len(texts), vectors.shape[1]), np.float32)
                rows[chunk[place : place + size]] = vectors
        return rows

    def _run(self, tokens: list[NDArray[np.int64]]) -> Rows:
        width = max(1, *map(len, tokens))
        ids = np.zeros((len(tokens), width), np.int64)
        mask = np.zeros((len(tokens), width), np.int64)
        for row, own in enumerate(tokens):
            ids[row, : len(own)] = own
            mask[row, : len(own)] = 1
        offered = {
            "input_ids": ids,
            "attention_mask": mask,
            "token_type_ids": np.zeros_like(ids),
        }
        given = {name: value for name, value in offered.items() if name in self._inputs}
        (states,) = self._session.run([self._output], given)
        return _pool(states, mask)


def _pool(states: NDArray[Any], mask: NDArray[np.int64]) -> Rows:
    states = states.astype(np.float32, copy=False)
    if states.ndim == 3:
        weights = mask[:, :, None].astype(np.float32)
        states = (states * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1.0)
    if states.ndim != 2:
        raise AnswerError(f"the model's first output has shape {states.shape}, not vectors")
    lengths = np.linalg.norm(states, axis=1, keepdims=True)
    rows: Rows = states / np.maximum(lengths, np.finfo(np.float32).tiny)
    return rows
