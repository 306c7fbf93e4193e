"""OpenAI's and Anthropic's SDKs, in both colours, and what they ask here."""

import asyncio
import functools

import anthropic
import openai
import pytest

from tests.gateway.comparing import MODEL, QUESTION

CHAT = {
    "model": MODEL,
    "messages": [{"role": "user", "content": QUESTION}],
    "temperature": 0,
    "seed": 1,
    "max_tokens": 100,
}
MESSAGE = {
    "model": MODEL,
    "system": "Be brief.",
    "messages": [{"role": "user", "content": QUESTION}],
    "max_tokens": 100,
    # Deprecated in the SDK, not in the model server.
    "extra_body": {"temperature": 0},
}
TEXTS = ["hello world", "good morning", "the red house"]


def with_client(make, then):
    with make() as client:
        return then(client)


def awaited(make, then):
    async def go():
        async with make() as client:
            return await then(client)

    return asyncio.run(go())


ask_openai = functools.partial(with_client, openai.OpenAI)
ask_anthropic = functools.partial(with_client, anthropic.Anthropic)
await_openai = functools.partial(awaited, openai.AsyncOpenAI)
await_anthropic = functools.partial(awaited, anthropic.AsyncAnthropic)


def dumped(stream):
    return [one.model_dump() for one in stream]


async def adumped(stream):
    return [one.model_dump() async for one in stream]


def failure(call):
    with pytest.raises((openai.APIStatusError, anthropic.APIStatusError)) as failed:
        call()
    error = failed.value
    return type(error).__name__, error.status_code, str(error), error.body
