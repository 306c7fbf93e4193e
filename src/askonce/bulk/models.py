"""Models by what the command line calls them."""

import importlib
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from askonce.bulk.tokens import price_of
from askonce.core.keys import Identity
from askonce.core.vectors import Vectors
from askonce.errors import AskonceError, InputError
from askonce.providers import Embedder, OpenAIEmbedder
from askonce.providers.local import (
    Model2VecEmbedder,
    OnnxEmbedder,
    SentenceTransformerEmbedder,
)

_REMOTE_AT_ONCE = 8
_LOCAL_AT_ONCE = 2
_REMOTE_BATCH = 512
_LOCAL_BATCH = 256

_RATE = re.compile(r"(\d+(?:\.\d+)?)([kKmM]?)(rpm|tpm)")
_SCALE = {"": 1, "k": 1e3, "m": 1e6}


@dataclass(frozen=True)
class Rate:
    """Hold what a provider allows a minute; None is no limit."""

    requests: float | None = None
    tokens: float | None = None

    @classmethod
    def of(cls, text: str) -> "Rate":
        """Read a rate like 3000rpm or 3000rpm,1Mtpm. Raises InputError."""
        found: dict[str, float] = {}
        for part in text.replace(" ", "").split(","):
            match = _RATE.fullmatch(part)
            if match is None or not float(match[1]) > 0:
                raise InputError(
                    f"{text!r} is no rate; write requests or tokens a minute or both, "
                    "for example 3000rpm, 1Mtpm or 3000rpm,1000000tpm"
                )
            found[match[3]] = float(match[1]) * _SCALE[match[2].lower()]
        return cls(found.get("rpm"), found.get("tpm"))


@dataclass(frozen=True)
class Wishes:
    """Hold what was asked of a model besides its name.

    One that only plans is asked nothing, and needs no key.
    """

    base_url: str | None = None
    dimensions: int | None = None
    rate: Rate = Rate()
    only_plans: bool = False


@dataclass(frozen=True)
class Model:
    """Hold an embedder and what a job needs to know of it.

    `price` is dollars a token, None if unknown; `at_once` how many batches may be under way.
    """

    embedder: Embedder
    batch_size: int
    at_once: int
    is_local: bool
    price: float | None
    rate: Rate = Rate()


def open_model(spec: str, wishes: Wishes) -> Model:
    """Load the model that KIND:NAME means. Raises InputError, MissingExtraError."""
    kind, separator, name = spec.partition(":")
    if not separator or not name or kind not in _KINDS:
        known = ", ".join(f"{kind}:{what}" for kind, (what, _) in _KINDS.items())
        raise InputError(f"{spec!r} is no model; write one of {known}")
    if kind != "openai" and (wishes.base_url or wishes.rate != Rate()):
        raise InputError("--base-url and --rate are for models openai:NAME")
    try:
        return _KINDS[kind][1](name, wishes)
    except AskonceError:
        raise
    except Exception as error:
        raise InputError(f"{spec} cannot be loaded: {type(error).__name__}: {error}") from error


def _openai(name: str, wishes: Wishes) -> Model:
    # A batch is one request, so each call of the embedder has one under way.
    has_key = bool(os.environ.get("OPENAI_API_KEY"))
    embedder = OpenAIEmbedder(
        name,
        api_key="none" if wishes.only_plans and not has_key else None,
        base_url=wishes.base_url,
        dimensions=wishes.dimensions,
        concurrency=1,
        requests_per_minute=wishes.rate.requests,
    )
    return Model(
        embedder,
        batch_size=min(embedder.batch_size, _REMOTE_BATCH),
        at_once=_REMOTE_AT_ONCE,
        is_local=False,
        price=price_of(name, base_url=wishes.base_url or os.environ.get("OPENAI_BASE_URL")),
        rate=wishes.rate,
    )


def _onnx(name: str, wishes: Wishes) -> Model:
    if wishes.dimensions is not None:
        raise InputError("--dimensions: a model onnx:DIR has but its own; leave the option out")
    return _local(OnnxEmbedder(name))


def _model2vec(name: str, wishes: Wishes) -> Model:
    return _local(Model2VecEmbedder(name, dimensions=wishes.dimensions))


def _sentence_transformers(name: str, wishes: Wishes) -> Model:
    return _local(SentenceTransformerEmbedder(name, dimensions=wishes.dimensions))


def _python(name: str, wishes: Wishes) -> Model:
    module, _, attribute = name.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"python:{name} cannot be loaded ({error}); write python:MODULE:FUNCTION, "
            "where the module is in this folder or installed"
        ) from error
    if not hasattr(found, "__call__"):  # noqa: B004  `callable` would narrow what is unknown
        raise InputError(f"python:{name} is no function")
    is_embedder = hasattr(found, "model")
    embedder: Embedder = found if is_embedder else _Function(found, name, wishes.dimensions)
    # What a function asks, and what that costs, cannot be known.
    return Model(embedder, _LOCAL_BATCH, _LOCAL_AT_ONCE, is_local=False, price=None)


def _local(embedder: Embedder) -> Model:
    return Model(embedder, _LOCAL_BATCH, _LOCAL_AT_ONCE, is_local=True, price=0.0)


@dataclass(frozen=True)
class _Function:
    """Be an embedder that a plain function is."""

    function: Callable[[list[str]], Vectors]
    model: str
    dimensions: int | None

    @property
    def parameters(self) -> Identity:
        return {"library": "python"}

    def __call__(self, texts: list[str]) -> Vectors:
        return self.function(texts)


_KINDS: dict[str, tuple[str, Callable[[str, Wishes], Model]]] = {
    "openai": ("NAME", _openai),
    "onnx": ("DIR", _onnx),
    "model2vec": ("PATH", _model2vec),
    "sentence-transformers": ("NAME", _sentence_transformers),
    "python": ("MODULE:FUNCTION", _python),
}
