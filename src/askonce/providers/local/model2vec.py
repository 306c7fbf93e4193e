"""An embedder for static models."""

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from askonce.core.keys import Identity
from askonce.providers.answers import Rows
from askonce.providers.asking import sendable
from askonce.providers.extras import import_extra
from askonce.providers.local.weights import digest_of


class Model2VecEmbedder:
    """Embed texts with a model2vec model: a folder, or a name that the library looks up.

    `dimensions` keeps the first so many. A name is fetched if it is not there and trusted to
    stay what it is; a folder is known by its files. Raises MissingExtraError without the library.
    """

    def __init__(self, model: str | Path, *, dimensions: int | None = None) -> None:
        library = import_extra("model2vec", "model2vec", "Model2VecEmbedder")
        self._model = library.StaticModel.from_pretrained(
            model, dimensionality=dimensions, force_download=False
        )
        folder = Path(model)
        self.model = folder.resolve().name if folder.is_dir() else str(model)
        self.dimensions = dimensions
        self.parameters: Identity = {
            "library": "model2vec",
            "weights": digest_of(folder) if folder.is_dir() else None,
        }
        # The library sets its tokenizer up anew in every call.
        self._one_at_a_time = threading.Lock()

    def __call__(self, texts: Sequence[str]) -> Rows:
        """Embed texts: float32 of shape (len(texts), dimensions), in the order of the texts.

        Raises InputTypeError for anything but strings, InputRefusedError for a text that is not
        valid Unicode.
        """
        texts = sendable(texts)
        if not texts:
            return np.empty((0, self.dimensions or self._model.dim), np.float32)
        with self._one_at_a_time:
            rows: Rows = self._model.encode(texts, use_multiprocessing=False)
        return np.ascontiguousarray(rows, np.float32)
