"""An embedder for models of sentence-transformers."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from askonce.core.keys import Identity
from askonce.errors import InputError
from askonce.providers.answers import Rows
from askonce.providers.asking import sendable
from askonce.providers.extras import import_extra
from askonce.providers.local.weights import digest_of


class Encoder(Protocol):
    """Be what is used of a SentenceTransformer."""

    @property
    def max_seq_length(self) -> int | None:
        """Tell how many tokens the model takes in."""
        ...

    def encode(self, inputs: Any, /, **options: Any) -> Any:
        """Embed texts."""
        ...


class SentenceTransformerEmbedder:
    """Embed texts with a sentence-transformers model: a folder, a name, or one that is loaded.

    A folder is known by its files, a name by its `revision`, a loaded model by the `name` you
    give it. `prompt` goes before every text, `dimensions` keeps the first so many, `normalize`
    scales to length 1. Raises InputError for a loaded model without a name, MissingExtraError
    without the library.
    """

    def __init__(
        self,
        model: str | Path | Encoder,
        *,
        name: str | None = None,
        revision: str | None = None,
        device: str | None = None,
        dimensions: int | None = None,
        prompt: str | None = None,
        normalize: bool = False,
        batch_size: int = 32,
    ) -> None:
        weights = None
        if isinstance(model, str | Path):
            library = import_extra(
                "sentence_transformers", "sentence-transformers", "SentenceTransformerEmbedder"
            )
            self._model: Encoder = library.SentenceTransformer(
                str(model), revision=revision, device=device
            )
            folder = Path(model)
            if folder.is_dir():
                weights = digest_of(folder)
                model = folder.resolve().name
            self.model = name or str(model)
        elif name:
            self._model = model
            self.model = name
        else:
            raise InputError("a loaded model needs a name, to tell it from others; give name=")
        self.dimensions = dimensions
        self.parameters: Identity = {
            "library": "sentence-transformers",
            "weights": weights,
            "revision": revision,
            "prompt": prompt,
            "normalize": normalize,
            "max_length": self._model.max_seq_length,
        }
        self._options = {
            "prompt": prompt,
            "normalize_embeddings": normalize,
            "truncate_dim": dimensions,
            "batch_size": batch_size,
            "show_progress_bar": False,
        }
        # Its tokenizers may not be used by two threads at once.
        self._one_at_a_time = threading.Lock()

    def __call__(self, texts: Sequence[str]) -> Rows:
        """Embed texts: float32 of shape (len(texts), dimensions), in the order of the texts.

        Raises InputTypeError for anything but strings, InputRefusedError for a text that is not
        valid Unicode.
        """
        texts = sendable(texts)
        if not texts:
            return np.empty((0, self.dimensions or 0), np.float32)
        with self._one_at_a_time:
            rows: Rows = self._model.encode(texts, **self._options)
        return np.ascontiguousarray(rows, np.float32)
