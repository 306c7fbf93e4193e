"""An embedder for any server that has OpenAI's /embeddings."""

import asyncio
import contextlib
import os
import threading
import weakref
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import numpy as np

from askonce.core.keys import Identity
from askonce.core.vectors import Vectors
from askonce.errors import InputError
from askonce.providers.answers import Rows
from askonce.providers.asking import Asking, Dialect, ask_flow, check_texts
from askonce.providers.extras import import_extra
from askonce.providers.limits import Limits, cut, limits_of
from askonce.providers.pace import Pace
from askonce.providers.sending import Sender
from askonce.providers.tokens import counter, estimate

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI

_ADDRESS = "https://api.openai.com/v1"
_MOST_AT_ONCE = 4096


class OpenAIEmbedder:
    """Embed texts with a model behind OpenAI's interface: OpenAI, Azure, vLLM, Ollama and so on.

    `api_key` is read from OPENAI_API_KEY where the address is OpenAI's own or comes from
    OPENAI_BASE_URL; no key goes to another address unless it is given. A `client` of the SDK
    (Azure's too) is used as it is and stays yours to close; without an `async_client` beside it
    `aembed` works in threads.

    `max_inputs` and `max_tokens` bound one request (default: what the provider is known to take),
    `concurrency` the requests under way in one call. Rate limits, timeouts, broken connections
    and server errors are tried again, `attempts` times in all: after the time the provider asks
    for, else after random times of up to `backoff` seconds, doubling. A provider that asks for
    more than `max_wait` seconds is not waited for. Times are in seconds.

    `provider` tells apart servers that have the same name for different models; it is the host,
    port and path of the address unless given. `extra_body` is sent along and decides the vectors.

    Raises MissingExtraError without the SDK, InputError for settings that cannot be used.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        dimensions: int | None = None,
        max_inputs: int | None = None,
        max_tokens: int | None = None,
        concurrency: int = 8,
        requests_per_minute: float | None = None,
        timeout: float = 60.0,
        attempts: int = 8,
        backoff: float = 1.0,
        max_wait: float = 60.0,
        provider: str | None = None,
        extra_body: Mapping[str, object] | None = None,
        client: "OpenAI | None" = None,
        async_client: "AsyncOpenAI | None" = None,
    ) -> None:
        if not isinstance(model, str) or not model:
            raise InputError("model is empty; name the model to ask")
        numbers = {
            "dimensions": dimensions,
            "max_inputs": max_inputs,
            "max_tokens": max_tokens,
            "concurrency": concurrency,
            "requests_per_minute": requests_per_minute,
            "timeout": timeout,
            "attempts": attempts,
        }
        for name, number in numbers.items():
            if number is not None and not number > 0:
                raise InputError(f"{name} is {number}; it must be above 0")
        if async_client is not None and client is None:
            raise InputError("async_client needs a client beside it, for calls that are not async")
        if client is not None and (base_url or api_key):
            raise InputError("base_url and api_key belong to the client; give them or a client")
        self._sdk = import_extra("openai", "openai", "OpenAIEmbedder")
        import_extra("tenacity", "openai", "OpenAIEmbedder")
        self._owns_client = client is None
        self._settings = {} if client else _settings(base_url, api_key)
        self._client: OpenAI = client or self._sdk.OpenAI(**self._settings)
        self._async_client = async_client
        self._async_clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncOpenAI] = (
            weakref.WeakKeyDictionary()
        )
        address = str(self._client.base_url)
        known = limits_of(urlsplit(address).hostname or "", model)
        self.model = model
        self.dimensions = dimensions
        self.parameters: Identity = {"provider": provider or _place(address)}
        if extra_body:
            self.parameters = {**self.parameters, "extra_body": dict(extra_body)}
        self._limits = Limits(max_inputs or known.inputs, max_tokens or known.tokens)
        self._concurrency = concurrency
        self._count = counter(model)
        self._dialect = Dialect()
        self._sender = Sender(
            model=model,
            dimensions=dimensions,
            extra_body=dict(extra_body or {}),
            timeout=timeout,
            attempts=attempts,
            backoff=backoff,
            max_wait=max_wait,
            pace=Pace(requests_per_minute),
        )

    @property
    def tokens_used(self) -> int:
        """Tell how many tokens the provider has counted so far."""
        return self._sender.tokens_used

    @property
    def batch_size(self) -> int:
        """Tell how many texts at once keep all allowed requests busy, within reason."""
        return min(self._limits.inputs * self._concurrency, _MOST_AT_ONCE)

    def __call__(self, texts: Sequence[str]) -> Rows:
        """Embed texts: float32 of shape (len(texts), dimensions), in the order of the texts.

        Raises InputTooLongError or InputRefusedError for a text that the provider will not
        embed, AnswerError for an answer that cannot be used, InputTypeError for anything but
        strings, and the SDK's own errors.
        """
        return self._stack(self._embed(texts, all_or_nothing=True))

    async def aembed(self, texts: Sequence[str]) -> Rows:
        """Embed texts without blocking the event loop."""
        return self._stack(await self._aembed(texts, all_or_nothing=True))

    def embed_each(self, texts: Sequence[str]) -> list[Vectors | Exception]:
        """Embed as many of the texts as can be: for each its vector, or what stands in its way.

        InputRefusedError (InputTooLongError is one) is about that text; any other error is
        about the request it was part of. After a refused key, or a model that is not there,
        nothing more is asked, and the rest has that same error. Raises InputTypeError.
        """
        return self._embed(texts, all_or_nothing=False)

    async def aembed_each(self, texts: Sequence[str]) -> list[Vectors | Exception]:
        """Embed as many as can be without blocking the event loop; see `embed_each`."""
        return await self._aembed(texts, all_or_nothing=False)

    def close(self) -> None:
        """Close the connections that were opened here, but those of `aembed`."""
        if self._owns_client:
            self._client.close()

    async def aclose(self) -> None:
        """Close the connections that were opened here, and those of `aembed` in this loop."""
        client = self._async_clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.close()
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _embed(self, texts: Sequence[str], *, all_or_nothing: bool) -> list[Vectors | Exception]:
        bell = threading.Event()
        asking, batches = self._plan(texts, all_or_nothing=all_or_nothing, bell=bell)
        if len(batches) == 1:
            self._ask(batches[0], asking, bell)
        elif batches:
            workers = min(self._concurrency, len(batches))
            with ThreadPoolExecutor(workers, thread_name_prefix="askonce-embed") as pool:
                try:
                    list(pool.map(lambda batch: self._ask(batch, asking, bell), batches))
                except BaseException as error:
                    # What is under way ends, what waits for its turn does not begin.
                    asking.halt(error)
                    raise
        return asking.results()

    async def _aembed(
        self, texts: Sequence[str], *, all_or_nothing: bool
    ) -> list[Vectors | Exception]:
        client = self._client_of_loop()
        if client is None:
            return await asyncio.to_thread(self._embed, texts, all_or_nothing=all_or_nothing)
        bell = asyncio.Event()
        asking, batches = await asyncio.to_thread(
            self._plan, texts, all_or_nothing=all_or_nothing, bell=bell
        )
        turn = asyncio.Semaphore(self._concurrency)

        async def ask(batch: list[int]) -> None:
            async with turn:
                await self._aask(batch, asking, bell, client)

        async with asyncio.TaskGroup() as group:
            for batch in batches:
                group.create_task(ask(batch))
        return asking.results()

    def _plan(
        self,
        texts: Sequence[str],
        *,
        all_or_nothing: bool,
        bell: threading.Event | asyncio.Event,
    ) -> tuple[Asking, list[list[int]]]:
        texts, unsendable = check_texts(texts)
        sendable = [index for index in range(len(texts)) if index not in unsendable]
        most_inputs = min(self._limits.inputs, self._dialect.most_inputs or self._limits.inputs)
        limits = Limits(most_inputs, self._limits.tokens)
        sizes = [0 if index in unsendable else estimate(text) for index, text in enumerate(texts)]
        if sum(sizes) > limits.tokens:
            sizes = [
                0 if index in unsendable else self._count(text) for index, text in enumerate(texts)
            ]
        asking = Asking(texts, sizes, all_or_nothing=all_or_nothing, bell=bell)
        for index, error in unsendable.items():
            asking.fail([index], error)
        batches = cut([sizes[index] for index in sendable], limits)
        return asking, [[sendable[place] for place in batch] for batch in batches]

    def _ask(self, batch: list[int], asking: Asking, bell: threading.Event) -> None:
        flow = ask_flow(batch, asking, self._dialect)
        with contextlib.suppress(StopIteration):
            request = next(flow)
            while True:
                request = flow.send(self._sender.send(request, asking, bell, self._client))

    async def _aask(
        self, batch: list[int], asking: Asking, bell: asyncio.Event, client: "AsyncOpenAI"
    ) -> None:
        flow = ask_flow(batch, asking, self._dialect)
        with contextlib.suppress(StopIteration):
            request = next(flow)
            while True:
                request = flow.send(await self._sender.asend(request, asking, bell, client))

    def _stack(self, outcomes: Iterable[Vectors | Exception]) -> Rows:
        rows: list[Vectors] = []
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
            rows.append(outcome)
        if not rows:
            return np.empty((0, self._sender.length), np.float32)
        return np.stack(rows).astype(np.float32, copy=False)

    def _client_of_loop(self) -> "AsyncOpenAI | None":
        """Give this loop's client: connections cannot be used from another loop."""
        if self._async_client is not None or not self._owns_client:
            return self._async_client
        loop = asyncio.get_running_loop()
        client = self._async_clients.get(loop)
        if client is None:
            client = self._async_clients[loop] = self._sdk.AsyncOpenAI(**self._settings)
        return client


def _settings(base_url: str | None, api_key: str | None) -> dict[str, Any]:
    address = base_url or os.environ.get("OPENAI_BASE_URL") or _ADDRESS
    trusted = base_url is None or urlsplit(base_url).hostname == urlsplit(_ADDRESS).hostname
    if api_key is None and not trusted:
        api_key = "none"
    return {"base_url": address, "api_key": api_key, "max_retries": 0}


def _place(address: str) -> str:
    """Write an address without scheme, user and query."""
    parts = urlsplit(address)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.hostname or ''}{port}{parts.path.rstrip('/')}"
