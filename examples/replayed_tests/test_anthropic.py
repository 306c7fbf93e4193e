"""Anthropic's SDK: plain messages, streams, tools."""

import pytest

WEATHER = {
    "name": "weather",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 12}},
        "required": ["city"],
    },
}


@pytest.mark.parametrize("animal", ["cat", "horse", "whale"])
def test_message(claude, ask, animal):
    message = claude.messages.create(**ask(f"What does a {animal} eat?"))
    assert message.content[0].text
    assert message.usage.output_tokens > 0


@pytest.mark.parametrize("animal", ["owl", "ant"])
def test_stream(claude, ask, animal):
    with claude.messages.stream(**ask(f"Where does an {animal} live?")) as stream:
        text = "".join(stream.text_stream)
    assert text == stream.get_final_message().content[0].text


async def test_message_async(async_claude, ask):
    message = await async_claude.messages.create(**ask("What does a dog eat?"))
    assert message.content[0].text


async def test_stream_async(async_claude, ask):
    async with async_claude.messages.stream(**ask("Where does a bear live?")) as stream:
        text = "".join([piece async for piece in stream.text_stream])
    assert text


def test_tool_use(claude, ask):
    request = ask(
        "What is the weather in Paris? Use the tool.",
        tools=[WEATHER],
        extra_body={"temperature": 0},
    )
    uses = [block for block in claude.messages.create(**request).content if block.type == "tool_use"]
    assert uses[0].name == "weather"
    assert set(uses[0].input) == {"city"}
