"""Real clients before a real model: with the gateway as without it, and asked once."""

import asyncio
import contextlib
import functools
import hashlib
import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import anthropic
import httpx2
import openai
import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic_ai import Agent, Embedder
from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings

from tests.gateway.comparing import MODEL, QUESTION, said
from tests.gateway.tool_provider import ANTHROPIC_TOOL, ARGUMENTS, OPENAI_TOOL, TOLD

pytest_plugins = ["tests.parts.fixtures", "tests.gateway.scenes"]

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


# OpenAI's

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


def failure(call):
    with pytest.raises((openai.APIStatusError, anthropic.APIStatusError)) as failed:
        call()
    error = failed.value
    return type(error).__name__, error.status_code, str(error), error.body


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


# Anthropic's

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


# LangChain's

LANGCHAIN_OWN = ["id"]
"""The id of a run of its own."""


def langchain_model(**more):
    return ChatOpenAI(model=MODEL, temperature=0, seed=1, max_tokens=100, **more)


@pytest.mark.parametrize("more", [{}, {"use_responses_api": True}], ids=["chat", "responses"])
@pytest.mark.parametrize("stream", [False, True])
def test_langchain_chat(compare, stream, more):
    def ask():
        model = ChatOpenAI(model=MODEL, temperature=0, max_tokens=100, **more)
        if stream:
            return [chunk.model_dump() for chunk in model.stream(QUESTION)]
        return model.invoke(QUESTION).model_dump()

    compare(ask, own=LANGCHAIN_OWN)


@pytest.mark.parametrize("stream", [False, True])
def test_langchain_async_chat(compare, stream):
    async def go():
        # LangChain's own clients outlive the loop that they were used in.
        async with httpx2.AsyncClient(trust_env=False) as http:
            model = langchain_model(http_async_client=http)
            if stream:
                return [chunk.model_dump() async for chunk in model.astream(QUESTION)]
            return (await model.ainvoke(QUESTION)).model_dump()

    compare(lambda: asyncio.run(go()), own=LANGCHAIN_OWN)


@pytest.mark.parametrize("stream", [False, True])
def test_langchain_tool_calls(compare_tools, stream):
    def ask():
        model = langchain_model().bind_tools([OPENAI_TOOL])
        if stream:
            return [chunk.model_dump() for chunk in model.stream("The weather?")]
        return model.invoke("The weather?").model_dump()

    compare_tools(ask, own=LANGCHAIN_OWN)


def test_langchain_tools_to_the_end(compare_tools):
    def ask():
        model = langchain_model().bind_tools([OPENAI_TOOL])
        question = HumanMessage("The weather?")
        calling = model.invoke([question])
        assert isinstance(calling, AIMessage)
        (call,) = calling.tool_calls
        assert call["args"] == ARGUMENTS
        result = ToolMessage("rain", tool_call_id=call["id"])
        return [model.invoke([question, calling, result]).content]

    assert compare_tools(ask, asks=2) == [TOLD]


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Put tiktoken's table where tiktoken looks for it."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    source = next(
        path / "data" / "cl100k_base.tiktoken"
        for path in map(Path, find_spec("tiktoken_ext").submodule_search_locations)
        if (path / "data" / "cl100k_base.tiktoken").is_file()
    )
    address = "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken"
    shutil.copy(source, tmp_path / hashlib.sha1(address.encode()).hexdigest())


@pytest.mark.parametrize("tokens", [True, False])
def test_langchain_embeddings(compare, table, tokens):
    def ask(texts=TEXTS[:2]):
        model = OpenAIEmbeddings(model="text-embedding-3-small", check_embedding_ctx_length=tokens)
        return [model.embed_documents(texts), model.embed_query(texts[0])]

    # The query is one of the documents.
    compare(ask)
    count, (vectors, _) = compare.asked_by(lambda: ask(TEXTS))
    assert (count, len(vectors)) == (1, 3)


# Pydantic AI's

AGENTS = {
    "chat": OpenAIChatModel,
    "responses": OpenAIResponsesModel,
    "anthropic": AnthropicModel,
}
PYDANTIC_OWN = ["timestamp", "run_id", "conversation_id"]


def agent_of(kind):
    settings = ModelSettings(temperature=0, max_tokens=100)
    return Agent(AGENTS[kind](MODEL), model_settings=settings)


@contextlib.asynccontextmanager
async def closing(agent):
    """Close the client that the model has made for itself."""
    async with agent:
        yield agent


@pytest.mark.parametrize("kind", AGENTS)
@pytest.mark.parametrize("stream", [False, True])
def test_pydantic_ai_chat(compare, kind, stream):
    async def go():
        async with closing(agent_of(kind)) as agent:
            if stream:
                async with agent.run_stream(QUESTION) as run:
                    parts = [text async for text in run.stream_text(delta=True, debounce_by=None)]
                    return [parts, messages_of(run)]
            run = await agent.run(QUESTION)
            return [run.output, messages_of(run)]

    compare(lambda: asyncio.run(go()), own=PYDANTIC_OWN)


def messages_of(run):
    whole = said(json.loads(run.all_messages_json()), PYDANTIC_OWN)
    return said(whole, {"provider_response_id", "provider_details", "url", "provider_url"})


@pytest.mark.parametrize("kind", ["chat", "anthropic"])
@pytest.mark.parametrize("stream", [False, True])
def test_pydantic_ai_tools_to_the_end(compare_tools, kind, stream):
    async def go():
        async with closing(agent_of(kind)) as agent:
            called = []

            @agent.tool_plain
            def forecast(city: str, days: int) -> str:
                called.append({"city": city, "days": days})
                return "rain"

            if stream:
                async with agent.run_stream("The weather?") as run:
                    return [await run.get_output(), called]
            return [(await agent.run("The weather?")).output, called]

    output, called = compare_tools(lambda: asyncio.run(go()), asks=2)
    assert called == [ARGUMENTS]
    assert output.replace(" ", "") == TOLD.replace(" ", "")


def test_pydantic_ai_embeddings(compare):
    async def go():
        async with openai.AsyncOpenAI() as client:
            model = OpenAIEmbeddingModel(
                "text-embedding-3-small", provider=OpenAIProvider(openai_client=client)
            )
            found = await Embedder(model).embed_documents(TEXTS)
            return [list(map(list, found.embeddings))]

    compare(lambda: asyncio.run(go()))


# Several clients at one gateway


def test_what_an_sdk_asked_a_shell_streams(compare):
    before = compare.sides.count()
    count, text = compare.asked_by(
        lambda: ask_openai(
            lambda client: client.chat.completions.create(**CHAT).choices[0].message.content
        )
    )
    assert count == 1
    with httpx2.stream(
        "POST",
        f"{compare.sides.through}/v1/chat/completions",
        content=json.dumps({"stream": True, **CHAT}),
        headers={"authorization": f"Bearer {compare.key}", "content-type": "text/plain"},
        trust_env=False,
    ) as reply:
        lines = [line.removeprefix("data: ") for line in reply.iter_lines() if line]
    assert compare.sides.count() == before + 1
    assert lines.pop() == "[DONE]"
    assert "".join(json.loads(line)["choices"][0]["delta"].get("content") or "" for line in lines) == text


def test_clients_of_two_providers_share_a_gateway_and_no_answer(compare):
    asked = {"model": MODEL, "messages": CHAT["messages"], "max_tokens": 100}
    cold = {"extra_body": {"temperature": 0}}

    def both():
        chat = ask_openai(lambda client: client.chat.completions.create(**asked, **cold))
        message = ask_anthropic(lambda client: client.messages.create(**asked, **cold))
        return chat.to_dict(), message.to_dict()

    count, first = compare.asked_by(both)
    assert count == 2
    assert first[0]["object"] == "chat.completion"
    assert first[1]["type"] == "message"
    assert compare.asked_by(both) == (0, first)


def test_another_key_of_a_client_shares_nothing(compare, monkeypatch):
    def ask(key):
        return lambda: with_client(
            functools.partial(openai.OpenAI, api_key=key),
            lambda client: client.chat.completions.create(**CHAT).id,
        )

    count, first = compare.asked_by(ask(compare.key))
    assert compare.asked_by(ask(compare.key)) == (0, first)
    count, other = compare.asked_by(ask(f"{compare.key}-other"))
    assert (count, other != first) == (1, True)
