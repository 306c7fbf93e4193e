"""Embedders: callables from texts to vectors, for models behind HTTP and on this machine.

Each names its `model`, the `dimensions` it was asked for and the `parameters` that tell its
vectors from another's; `cache` puts a store in front of it. What an embedder needs is imported
when it is made.
"""

from askonce.providers.caching import Embedder, cache
from askonce.providers.openai import OpenAIEmbedder
from askonce.providers.refusals import InputRefusedError, InputTooLongError

__all__ = ["Embedder", "InputRefusedError", "InputTooLongError", "OpenAIEmbedder", "cache"]
