"""Pydantic AI's embeddings, asked for once."""

import operator
from collections.abc import Mapping, Sequence
from functools import reduce

from askonce.core import policy
from askonce.core.store import Store
from askonce.embeddings import EmbeddingCache
from askonce.errors import MissingExtraError
from askonce.events import Observer, log
from askonce.integrations.fingerprint import plain
from askonce.stores import open_store

try:
    from pydantic_ai.embeddings import (
        EmbeddingModel,
        EmbeddingResult,
        EmbeddingSettings,
        WrapperEmbeddingModel,
    )
    from pydantic_ai.embeddings.result import EmbedInputType
    from pydantic_ai.usage import RequestUsage
except ImportError as error:
    raise MissingExtraError(
        "pydantic-ai-slim", "pydantic-ai", "askonce.integrations.pydantic_ai"
    ) from error

__all__ = ["CachedEmbeddingModel"]


class CachedEmbeddingModel(WrapperEmbeddingModel):
    """Be an embedding model that asks another one for what is not stored.

        embedder = Embedder(CachedEmbeddingModel("openai:text-embedding-3-small", "memory://"))

    Provider, base URL, model, kind of input and settings are part of every key. A result counts
    the tokens of what was asked for, so none if everything was stored. `store` is a URL or a
    Store; a Store that you opened is yours to close. `ttl` is in seconds. Raises InputError for
    values that cannot be used, InputTypeError for settings that have no stable content.
    """

    def __init__(
        self,
        wrapped: EmbeddingModel | str,
        store: Store | str,
        *,
        namespace: str = "",
        ttl: float | None = None,
        observe: Observer = log,
    ) -> None:
        super().__init__(wrapped)
        self.store = open_store(store)
        self._owns_store = self.store is not store
        self._namespace = namespace
        self._ttl = policy.check_ttl(ttl)
        self._observe = observe

    async def embed(
        self,
        inputs: str | Sequence[str],
        *,
        input_type: EmbedInputType,
        settings: EmbeddingSettings | None = None,
    ) -> EmbeddingResult:
        texts = [inputs] if isinstance(inputs, str) else list(inputs)
        asked: list[EmbeddingResult] = []

        async def ask(missing: list[str]) -> Sequence[Sequence[float]]:
            result = await self.wrapped.embed(missing, input_type=input_type, settings=settings)
            asked.append(result)
            return result.embeddings

        cache = EmbeddingCache(
            ask,
            model=self.model_name,
            parameters={
                "provider": self.system,
                "base_url": plain(self.base_url),
                "input": input_type,
                **_deciding({**(self.settings or {}), **(settings or {})}),
            },
            store=self.store,
            namespace=self._namespace,
            batch_size=max(1, len(texts)),
            ttl=self._ttl,
            observe=self._observe,
        )
        vectors = await cache.aembed(texts)
        return EmbeddingResult(
            embeddings=vectors.tolist(),
            inputs=texts,
            input_type=input_type,
            model_name=asked[0].model_name if asked else self.model_name,
            provider_name=self.system,
            usage=reduce(operator.add, (result.usage for result in asked), RequestUsage()),
            provider_details=asked[0].provider_details if asked else None,
            provider_response_id=asked[0].provider_response_id if asked else None,
        )

    def close(self) -> None:
        """Close the store if it was opened here, from a URL."""
        if self._owns_store:
            self.store.close()


def _deciding(settings: Mapping[str, object]) -> dict[str, object]:
    """Give settings that decide the vectors: all, but of the headers no credentials."""
    found = dict(settings)
    headers = plain(found.pop("extra_headers", None))
    return {"settings": found, "headers": headers}
