"""Anthropic's SDK before a real model: with the gateway as without it, and asked once."""

import pytest

from tests.gateway.clients.sdks import (
    MESSAGE,
    adumped,
    ask_anthropic,
    await_anthropic,
    dumped,
    failure,
)
from tests.gateway.comparing import MODEL
from tests.gateway.tool_provider import ANTHROPIC_TOOL, ARGUMENTS

pytest_plugins = ["tests.parts.fixtures", "tests.gateway.scenes"]

MESSAGES = [
    MESSAGE,
    {**MESSAGE, "stream": True},
    {**MESSAGE, "tools": [ANTHROPIC_TOOL]},
    {**MESSAGE, "tools": [ANTHROPIC_TOOL], "stream": True},
]


@pytest.mark.parametrize("asked", MESSAGES, ids=["plain", "stream", "tools", "tools-stream"])
def test_anthropic_messages(compare, asked):
    def then(client):
        answer = client.messages.create(**asked)
        return dumped(answer) if asked.get("stream") else answer.model_dump()

    compare(lambda: ask_anthropic(then))


@pytest.mark.parametrize("asked", MESSAGES[:2], ids=["plain", "stream"])
def test_anthropic_async_messages(compare, asked):
    async def then(client):
        answer = await client.messages.create(**asked)
        return await adumped(answer) if asked.get("stream") else answer.model_dump()

    compare(lambda: await_anthropic(then))


def test_anthropic_other_presentations_come_from_one_answer(compare):
    def streamed(client):
        with client.messages.stream(**MESSAGE) as stream:
            return stream.get_final_message().model_dump()

    def plain(client):
        return client.messages.create(**MESSAGE).model_dump()

    count, whole = compare.asked_by(lambda: ask_anthropic(streamed))
    assert count == 1
    count, again = compare.asked_by(lambda: ask_anthropic(plain))
    assert count == 0
    assert again["content"][0]["text"] == whole["content"][0]["text"]
    assert (again["id"], again["usage"]) == (whole["id"], whole["usage"])


@pytest.mark.parametrize("stream", [False, True])
def test_anthropic_tool_calls(compare_tools, stream):
    asked = {**MESSAGE, "tools": [ANTHROPIC_TOOL]}

    def then(client):
        answer = client.messages.create(**asked, stream=stream)
        return dumped(answer) if stream else answer.model_dump()

    def told(client):
        with client.messages.stream(**asked) as stream:
            return stream.get_final_message().content

    compare_tools(lambda: ask_anthropic(then))
    count, (block,) = compare_tools.asked_by(lambda: ask_anthropic(told))
    assert (count, block.id, block.input) == (0, "toolu_1", ARGUMENTS)


def test_anthropic_counts_tokens_and_lists_models(compare):
    def then(client):
        counted = client.messages.count_tokens(model=MODEL, messages=MESSAGE["messages"])
        return counted.input_tokens, [model.id for model in client.models.list()]

    compare.point(compare.sides.direct)
    direct = ask_anthropic(then)
    compare.point(compare.sides.through)
    assert ask_anthropic(then) == direct


def test_anthropic_errors_are_the_providers(compare):
    def then(client):
        long = {**MESSAGE, "messages": [{"role": "user", "content": "word " * 3000}]}
        return client.with_options(max_retries=0).messages.create(**long)

    compare.point(compare.sides.direct)
    direct = failure(lambda: ask_anthropic(then))
    compare.point(compare.sides.through)
    assert failure(lambda: ask_anthropic(then)) == direct
