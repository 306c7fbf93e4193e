"""OpenAI's SDK before a real model: with the gateway as without it, and asked once."""

import json

import pytest

from tests.gateway.clients.sdks import (
    CHAT,
    TEXTS,
    adumped,
    ask_openai,
    await_openai,
    dumped,
    failure,
)
from tests.gateway.comparing import MODEL, QUESTION
from tests.gateway.tool_provider import ARGUMENTS, OPENAI_TOOL

pytest_plugins = ["tests.parts.fixtures", "tests.gateway.scenes"]

ASKED = [
    CHAT,
    {**CHAT, "stream": True},
    {**CHAT, "stream": True, "stream_options": {"include_usage": True}},
    {**CHAT, "tools": [OPENAI_TOOL]},
    {**CHAT, "tools": [OPENAI_TOOL], "stream": True},
    {**CHAT, "n": 2, "logprobs": True},
]
NAMES = ["plain", "stream", "stream-usage", "tools", "tools-stream", "choices"]


@pytest.mark.parametrize("asked", ASKED, ids=NAMES)
def test_openai_chat(compare, asked):
    def then(client):
        answer = client.chat.completions.create(**asked)
        return dumped(answer) if asked.get("stream") else answer.model_dump()

    first = compare(lambda: ask_openai(then))
    assert first


@pytest.mark.parametrize("asked", ASKED[:3], ids=NAMES[:3])
def test_openai_async_chat(compare, asked):
    async def then(client):
        answer = await client.chat.completions.create(**asked)
        return await adumped(answer) if asked.get("stream") else answer.model_dump()

    compare(lambda: await_openai(then))


@pytest.mark.parametrize("stream", [False, True])
def test_openai_responses(compare, stream):
    asked = {"model": MODEL, "input": QUESTION, "temperature": 0, "max_output_tokens": 100}

    def then(client):
        answer = client.responses.create(**asked, stream=stream)
        return dumped(answer) if stream else answer.model_dump()

    compare(lambda: ask_openai(then))


@pytest.mark.parametrize("stream", [False, True])
def test_openai_completions(compare, stream):
    # It must stop by itself: what is cut short is not kept.
    asked = {"model": MODEL, "prompt": "One, two, three,", "temperature": 0, "stop": ["\n"]}

    def then(client):
        answer = client.completions.create(**asked, max_tokens=60, stream=stream)
        return dumped(answer) if stream else answer.model_dump()

    compare(lambda: ask_openai(then))


def test_openai_other_presentations_come_from_one_answer(compare):
    def plain(client):
        return client.chat.completions.create(**CHAT).choices[0].message.content

    def streamed(client):
        with client.chat.completions.stream(**CHAT) as stream:
            return stream.get_final_completion().choices[0].message.content

    async def astreamed(client):
        stream = await client.chat.completions.create(**CHAT, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    count, text = compare.asked_by(lambda: ask_openai(plain))
    assert (count, bool(text)) == (1, True)
    assert compare.asked_by(lambda: ask_openai(streamed)) == (0, text)
    assert compare.asked_by(lambda: await_openai(astreamed)) == (0, text)


@pytest.mark.parametrize("encoding", [{}, {"encoding_format": "float"}], ids=["base64", "float"])
@pytest.mark.parametrize("given", ["hello world", TEXTS, [[15339, 1917], [23]], [15339]], ids=str)
def test_openai_embeddings(compare, given, encoding):
    def then(client):
        return client.embeddings.create(model=MODEL, input=given, **encoding).model_dump()

    # What costs nothing is told to have cost nothing. The model server also repeats the encoding
    # beside each vector, which is not OpenAI's format; of an input nothing but its vector is kept.
    compare(lambda: ask_openai(then), own=["usage", "encoding_format"])
    assert ask_openai(then)["usage"] == {"prompt_tokens": 0, "total_tokens": 0}


def test_openai_embeddings_of_which_one_is_new(compare):
    def embedded(*texts):
        def then(client):
            return client.embeddings.create(model=MODEL, input=list(texts))

        return lambda: ask_openai(then)

    compare.asked_by(embedded(*TEXTS[:2]))
    count, mixed = compare.asked_by(embedded(TEXTS[0], TEXTS[2], TEXTS[1]))
    assert count == 1
    compare.point(compare.sides.direct)
    alone = embedded(TEXTS[2])()
    others = embedded(*TEXTS[:2])()
    # The model server counted the tokens of that one alone.
    assert mixed.usage == alone.usage
    assert [one.index for one in mixed.data] == [0, 1, 2]
    # In a batch its vectors depend on what else is in it, so the same batches are compared.
    assert [one.embedding for one in mixed.data] == [
        others.data[0].embedding,
        alone.data[0].embedding,
        others.data[1].embedding,
    ]


def test_openai_what_no_cache_answers(compare):
    def models(client):
        return [model.id for model in client.models.list()]

    compare.point(compare.sides.direct)
    direct = ask_openai(models)
    compare.point(compare.sides.through)
    assert ask_openai(models) == direct == [MODEL]


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "word " * 3000}]
        ),
        lambda client: client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "word " * 3000}], stream=True
        ),
        lambda client: client.chat.completions.create(model=MODEL, messages="none"),
        lambda client: client.embeddings.create(model=MODEL, input=["word " * 3000]),
        lambda client: client.files.list(),
        lambda client: client.images.generate(prompt="a cat", model=MODEL),
    ],
    ids=["too-long", "too-long-stream", "malformed", "embedding", "files", "images"],
)
def test_openai_errors_are_the_providers(compare, call):
    def ask():
        return failure(lambda: ask_openai(lambda client: call(client.with_options(max_retries=0))))

    compare.point(compare.sides.direct)
    direct = ask()
    compare.point(compare.sides.through)
    assert ask() == direct


@pytest.mark.parametrize("stream", [False, True])
def test_openai_tool_calls(compare_tools, stream):
    asked = {**CHAT, "tools": [OPENAI_TOOL]}

    def then(client):
        answer = client.chat.completions.create(**asked, stream=stream)
        return dumped(answer) if stream else answer.model_dump()

    def told(client):
        with client.chat.completions.stream(**asked) as stream:
            return stream.get_final_completion().choices[0].message.to_dict()

    first = compare_tools(lambda: ask_openai(then))
    count, message = compare_tools.asked_by(lambda: ask_openai(told))
    assert count == 0
    (call,) = message["tool_calls"]
    assert (call["id"], json.loads(call["function"]["arguments"])) == ("call_1", ARGUMENTS)
    if not stream:
        assert first["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "forecast"


def test_openai_request_ids_are_kept(compare_tools):
    compare_tools(lambda: ask_openai(lambda client: client.chat.completions.create(**CHAT)._request_id))
