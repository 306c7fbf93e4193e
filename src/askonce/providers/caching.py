"""An embedder and a store, put together."""

from typing import Protocol

from askonce.core.keys import Identity
from askonce.core.store import Store
from askonce.core.vectors import Vectors
from askonce.embeddings import DEFAULT_BATCH_SIZE, EmbeddingCache
from askonce.events import Observer, log


class Embedder(Protocol):
    """Be what `cache` takes: a callable that says which model it asks.

    It may also have an async twin `aembed`, and `batch_size`, how many texts it likes at once.
    """

    @property
    def model(self) -> str:
        """Name the model."""
        ...

    @property
    def dimensions(self) -> int | None:
        """Tell what dimensions were asked for; None for the model's own."""
        ...

    @property
    def parameters(self) -> Identity:
        """Tell whatever else decides the vectors."""
        ...

    def __call__(self, texts: list[str], /) -> Vectors:
        """Embed texts: an array of shape (len(texts), dimensions)."""
        ...


def cache(
    embedder: Embedder,
    store: Store | str,
    namespace: str = "",
    *,
    batch_size: int | None = None,
    ttl: float | None = None,
    observe: Observer = log,
) -> EmbeddingCache:
    """Make an EmbeddingCache that asks this embedder.

        vectors = cache(OpenAIEmbedder("text-embedding-3-small"), "sqlite:///cache.db").embed(texts)

    Model, dimensions, parameters and the async twin come from the embedder, so two embedders
    share entries only if they give the same vectors. A model that embeds queries differently is
    two embedders, and so two caches, which may have one store. Raises what EmbeddingCache raises.
    """
    liked: int = getattr(embedder, "batch_size", DEFAULT_BATCH_SIZE)
    return EmbeddingCache(
        embedder,
        model=embedder.model,
        store=store,
        namespace=namespace,
        dimensions=embedder.dimensions,
        parameters=embedder.parameters,
        aembed=getattr(embedder, "aembed", None),
        batch_size=liked if batch_size is None else batch_size,
        ttl=ttl,
        observe=observe,
    )
