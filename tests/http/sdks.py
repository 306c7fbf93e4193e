"""The real SDKs, each asked in the same way whatever its colour: what they give, as plain data."""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import anthropic
import httpx2
import openai

import askonce

KINDS = ["sync", "async"]

METHODS = {
    "/v1/chat/completions": lambda client: client.chat.completions.create,
    "/v1/completions": lambda client: client.completions.create,
    "/v1/responses": lambda client: client.responses.create,
    "/v1/messages": lambda client: client.messages.create,
    "/v1/embeddings": lambda client: client.embeddings.create,
}
NAMED = {
    "/v1/chat/completions": ("model", "messages", "stream"),
    "/v1/completions": ("model", "prompt", "stream"),
    "/v1/responses": ("model", "input", "stream"),
    "/v1/messages": ("model", "messages", "max_tokens", "stream"),
    "/v1/embeddings": ("model", "input", "encoding_format"),
}
"""What goes by the method's own arguments; all else is passed as `extra_body`."""


@dataclass
class SDK:
    """Ask OpenAI's or Anthropic's SDK."""

    openai: Any
    anthropic: Any
    runner: asyncio.Runner | None

    def client(self, path: str) -> Any:
        return self.anthropic if path == "/v1/messages" else self.openai

    def ask(self, path: str, body: dict) -> Any:
        """Ask as a body says: the answer as plain data, for a stream a list of its events.

        An error of the SDK ends the list, or is the answer.
        """
        named = {name: body[name] for name in NAMED[path] if name in body}
        rest = {name: value for name, value in body.items() if name not in named}
        method = METHODS[path](self.client(path))
        if self.runner is not None:
            return self.runner.run(_aask(method, named, rest))
        return _ask(method, named, rest)

    def run(self, value: Any) -> Any:
        """Give what a call gives, or what its coroutine does."""
        return value if self.runner is None else self.runner.run(value)


def _ask(method: Any, named: dict, rest: dict) -> Any:
    found = []
    try:
        answer = method(**named, extra_body=rest)
        if not named.get("stream"):
            return answer.to_dict(warnings=False)
        for event in answer:
            found.append(event.to_dict(warnings=False))
    except (openai.APIError, anthropic.APIError) as error:
        found.append(_told(error))
    return found


async def _aask(method: Any, named: dict, rest: dict) -> Any:
    found = []
    try:
        answer = await method(**named, extra_body=rest)
        if not named.get("stream"):
            return answer.to_dict(warnings=False)
        async for event in answer:
            found.append(event.to_dict(warnings=False))
    except (openai.APIError, anthropic.APIError) as error:
        found.append(_told(error))
    return found


def _told(error: Exception) -> tuple[str, str]:
    return type(error).__name__, str(error)


@contextlib.contextmanager
def opened(kind: str, address: str, cache: Any = None) -> Iterator[SDK]:
    """Open both SDKs for one provider, before a cache or without one."""
    is_async = kind == "async"
    inner = (httpx2.AsyncHTTPTransport if is_async else httpx2.HTTPTransport)(verify=False)
    wrap = askonce.async_transport if is_async else askonce.transport
    transport = inner if cache is None else wrap(cache, inner)
    http = (httpx2.AsyncClient if is_async else httpx2.Client)(transport=transport, timeout=60)
    settings = {"api_key": "k", "http_client": http, "max_retries": 0}
    runner = asyncio.Runner() if is_async else None
    sdk = SDK(
        (openai.AsyncOpenAI if is_async else openai.OpenAI)(base_url=f"{address}/v1", **settings),
        (anthropic.AsyncAnthropic if is_async else anthropic.Anthropic)(
            base_url=address, **settings
        ),
        runner,
    )
    try:
        yield sdk
    finally:
        sdk.run(http.aclose() if is_async else http.close())
        if runner is not None:
            runner.close()
