"""More clients before a real model: JavaScript's, LlamaIndex, LiteLLM, `llm` and curl."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm
import openai
import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai import OpenAI as LlamaIndexOpenAI

from tests.gateway.comparing import MODEL, QUESTION
from tests.gateway.tool_provider import ANTHROPIC_TOOL, ARGUMENTS, OPENAI_TOOL, TOLD

pytest_plugins = ["tests.parts.fixtures", "tests.gateway.scenes"]
pytestmark = pytest.mark.filterwarnings("ignore:.*`ReadOnly` qualifier.*:UserWarning")

NPM = Path(__file__).resolve().parents[3] / ".cache" / "test-clients-npm"
MESSAGES = [{"role": "user", "content": QUESTION}]
CHAT = {"model": MODEL, "messages": MESSAGES, "temperature": 0, "seed": 1, "max_tokens": 100}
MESSAGE = {"model": MODEL, "messages": MESSAGES, "temperature": 0, "max_tokens": 100}
STREAM = {"stream": True}
WITH_USAGE = {**STREAM, "stream_options": {"include_usage": True}}
TEXTS = ["hello world", "good morning", "the red house"]
OF_A_COST = ["usage", "encoding_format"]
"""A hit costs nothing; and of an input nothing but its vector is kept."""


def printed(*command, told="", **environment):
    done = subprocess.run(
        list(map(str, command)),
        input=told,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "NO_PROXY": "*", **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# JavaScript's SDKs


def by_node(script, call, asked):
    told = json.dumps({"call": call, "asked": asked})
    return json.loads(printed("node", NPM / f"{script}.mjs", told=told))


@pytest.mark.parametrize(
    ("call", "more"),
    [
        ("chat", {}),
        ("chat", STREAM),
        ("chat", WITH_USAGE),
        ("final", WITH_USAGE),
        ("chat", {"tools": [OPENAI_TOOL]}),
        ("chat", {"tools": [OPENAI_TOOL], **STREAM}),
    ],
    ids=str,
)
def test_npm_openai_chat(compare, call, more):
    compare(lambda: by_node("openai_client", call, {**CHAT, **more}))


@pytest.mark.parametrize("more", [{}, STREAM], ids=str)
def test_npm_openai_responses(compare, more):
    asked = {"model": MODEL, "input": QUESTION, "temperature": 0, "max_output_tokens": 100}
    compare(lambda: by_node("openai_client", "responses", {**asked, **more}))


@pytest.mark.parametrize("given", ["hello world", TEXTS, [[15339, 1917], [23]]], ids=str)
@pytest.mark.parametrize("encoding", [{}, {"encoding_format": "float"}], ids=["base64", "float"])
def test_npm_openai_embeddings(compare, given, encoding):
    asked = {"model": MODEL, "input": given, **encoding}
    compare(lambda: by_node("openai_client", "embeddings", asked), own=OF_A_COST)


def test_npm_openai_embeddings_of_which_one_is_new(compare):
    def embedded(*texts):
        return by_node("openai_client", "embeddings", {"model": MODEL, "input": list(texts)})

    before = embedded(*TEXTS[:2])
    count, mixed = compare.asked_by(lambda: embedded(TEXTS[0], TEXTS[2], TEXTS[1]))
    compare.point(compare.sides.direct)
    alone = embedded(TEXTS[2])
    assert (count, mixed["usage"]) == (1, alone["usage"])
    vectors = [one["embedding"] for one in mixed["data"]]
    assert vectors == [one["data"][place]["embedding"] for one, place in ((before, 0), (alone, 0), (before, 1))]


@pytest.mark.parametrize("more", [{}, STREAM], ids=str)
def test_npm_openai_tool_calls(compare_tools, more):
    asked = {**CHAT, "tools": [OPENAI_TOOL], **more}
    compare_tools(lambda: by_node("openai_client", "chat", asked))
    whole = {**asked, "stream": True}
    count, answer = compare_tools.asked_by(lambda: by_node("openai_client", "final", whole))
    (call,) = answer["choices"][0]["message"]["tool_calls"]
    assert (count, json.loads(call["function"]["arguments"])) == (0, ARGUMENTS)


def test_npm_openai_errors_are_the_providers(compare):
    def ask():
        long = [{"role": "user", "content": "word " * 3000}]
        return by_node("openai_client", "chat", {**CHAT, "messages": long})

    compare.point(compare.sides.direct)
    direct = ask()
    compare.point(compare.sides.through)
    assert ask() == direct
    assert direct["status"] == 400


@pytest.mark.parametrize(
    ("call", "more"),
    [
        ("messages", {}),
        ("messages", STREAM),
        ("final", {}),
        ("messages", {"tools": [ANTHROPIC_TOOL]}),
        ("messages", {"tools": [ANTHROPIC_TOOL], **STREAM}),
    ],
    ids=str,
)
def test_npm_anthropic_messages(compare, call, more):
    compare(lambda: by_node("anthropic_client", call, {**MESSAGE, **more}))


@pytest.mark.parametrize("more", [{}, STREAM], ids=str)
def test_npm_anthropic_tool_calls(compare_tools, more):
    asked = {**MESSAGE, "tools": [ANTHROPIC_TOOL], **more}
    compare_tools(lambda: by_node("anthropic_client", "messages", asked))
    count, answer = compare_tools.asked_by(lambda: by_node("anthropic_client", "final", asked))
    assert (count, answer["content"][0]["input"]) == (0, ARGUMENTS)


# LlamaIndex


def llamaindex_model():
    # It knows the sizes of OpenAI's models only; the model server does not mind the name.
    return LlamaIndexOpenAI(
        model="gpt-4o-mini",
        api_base=os.environ["OPENAI_BASE_URL"],
        temperature=0,
        max_tokens=100,
        additional_kwargs={"seed": 1},
    )


def forecast(city: str, days: int) -> str:
    """Tell the weather to come."""
    return f"{city}: rain for {days} days"


@pytest.mark.parametrize("stream", [False, True])
def test_llamaindex_chat(compare, stream):
    def ask():
        messages = [ChatMessage(role="user", content=QUESTION)]
        if stream:
            return [plain(chunk) for chunk in llamaindex_model().stream_chat(messages)]
        return plain(llamaindex_model().chat(messages))

    compare(ask)


def test_llamaindex_async_chat(compare):
    async def go():
        messages = [ChatMessage(role="user", content=QUESTION)]
        chunks = await llamaindex_model().astream_chat(messages)
        return [plain(chunk) async for chunk in chunks]

    compare(lambda: asyncio.run(go()))


def plain(answer):
    return json.loads(json.dumps(answer.model_dump(mode="json"), default=lambda one: one.model_dump()))


@pytest.mark.parametrize("stream", [False, True])
def test_llamaindex_tool_calls(compare_tools, stream):
    tool = FunctionTool.from_defaults(forecast)

    def ask():
        model = llamaindex_model()
        if stream:
            answer = list(model.stream_chat_with_tools([tool], "The weather?"))[-1]
        else:
            answer = model.chat_with_tools([tool], "The weather?")
        calls = model.get_tool_calls_from_response(answer)
        return [call.model_dump() for call in calls]

    (call,) = compare_tools(ask)
    assert (call["tool_name"], call["tool_kwargs"]) == ("forecast", ARGUMENTS)


def test_llamaindex_embeddings(compare):
    def ask(texts=TEXTS[:2]):
        address = os.environ["OPENAI_BASE_URL"]
        model = OpenAIEmbedding(model="text-embedding-3-small", api_base=address)
        return [model.get_text_embedding_batch(texts), model.get_text_embedding(texts[0])]

    compare(ask)
    count, (vectors, _) = compare.asked_by(lambda: ask(TEXTS))
    assert (count, len(vectors)) == (1, 3)


# LiteLLM


@pytest.fixture
def thread_loop():
    """Be the loop of the thread, which LiteLLM's sync calls else make and leave open."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    loop.close()
    asyncio.set_event_loop(None)


LITELLM_OWN = ["id", "created"]
"""Chunks have an id and a time of its own."""


@pytest.mark.usefixtures("thread_loop")
@pytest.mark.parametrize("provider", ["openai", "anthropic"])
@pytest.mark.parametrize("more", [{}, STREAM, {"tools": [OPENAI_TOOL]}], ids=["plain", "stream", "tools"])
def test_litellm_chat(compare, provider, more):
    asked = {"messages": MESSAGES, "temperature": 0, "max_tokens": 100, **more}

    def ask():
        answer = litellm.completion(model=f"{provider}/{MODEL}", **asked)
        if more.get("stream"):
            return [chunk.model_dump() for chunk in answer]
        return answer.model_dump()

    compare(ask, own=LITELLM_OWN)


@pytest.mark.usefixtures("thread_loop")
@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_litellm_async_stream(compare, provider):
    async def go():
        asked = {"messages": MESSAGES, "temperature": 0, "max_tokens": 100, "stream": True}
        answer = await litellm.acompletion(model=f"{provider}/{MODEL}", **asked)
        chunks = [chunk.model_dump() async for chunk in answer]
        await litellm.close_litellm_async_clients()
        return chunks

    compare(lambda: asyncio.run(go()), own=LITELLM_OWN)


@pytest.mark.usefixtures("thread_loop")
@pytest.mark.parametrize("provider", ["openai", "anthropic"])
@pytest.mark.parametrize("stream", [False, True])
def test_litellm_tool_calls(compare_tools, provider, stream):
    def ask():
        asked = {"messages": MESSAGES, "max_tokens": 100, "tools": [OPENAI_TOOL], "stream": stream}
        answer = litellm.completion(model=f"{provider}/{MODEL}", **asked)
        if stream:
            answer = litellm.stream_chunk_builder(list(answer))
        return answer.model_dump()

    answer = compare_tools(ask, own=LITELLM_OWN)
    (call,) = answer["choices"][0]["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == ARGUMENTS


@pytest.mark.usefixtures("thread_loop")
@pytest.mark.parametrize("given", [TEXTS, [[15339, 1917], [23]]], ids=str)
def test_litellm_embeddings(compare, given):
    def ask():
        return litellm.embedding(model="openai/text-embedding-3-small", input=given).model_dump()

    compare(ask, own=OF_A_COST)


# llm


@pytest.fixture
def by_llm(tmp_path):
    """Run `llm` with a folder of its own, and without the plugin that carries the weights."""

    def run(*arguments):
        command = Path(sys.executable).parent / "llm"
        return printed(command, *arguments, LLM_USER_PATH=str(tmp_path), LLM_LOAD_PLUGINS="")

    return run


@pytest.mark.parametrize("more", [[], ["--no-stream"]], ids=["stream", "plain"])
def test_llm_prompts(compare, by_llm, more):
    def ask():
        by_llm("-m", "gpt-4o-mini", "-o", "temperature", 0, "-o", "max_tokens", 100, *more, QUESTION)
        (logged,) = json.loads(by_llm("logs", "--json", "-n", 1))
        return {name: logged[name] for name in ("response", "input_tokens", "response_json")}

    assert compare(ask)["response"]


def test_llm_tools_to_the_end(compare_tools, by_llm, tmp_path):
    functions = tmp_path / "functions.py"
    functions.write_text('def forecast(city: str, days: int) -> str:\n    """Tell."""\n    return "rain"\n')

    def ask():
        return by_llm("-m", "gpt-4o-mini", "--functions", functions, "The weather?")

    assert compare_tools(ask, asks=2).strip().replace(" ", "") == TOLD.replace(" ", "")


def test_llm_embeddings(compare, by_llm):
    compare(lambda: json.loads(by_llm("embed", "-m", "3-small", "-c", "hello world")))


# curl


def by_curl(path, asked, *more):
    key = os.environ["OPENAI_API_KEY"]
    return printed(
        "curl",
        "--silent",
        "--show-error",
        "--fail-with-body",
        *("--header", f"Authorization: Bearer {key}", "--header", "Content-Type: application/json"),
        *("--data", "@-"),
        *more,
        f"{os.environ['OPENAI_BASE_URL']}{path}",
        told=json.dumps(asked),
    )


def events_of(text):
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def test_curl_chat(compare):
    compare(lambda: json.loads(by_curl("/chat/completions", CHAT)))


def test_curl_streams(compare):
    asked = {**CHAT, **WITH_USAGE}
    compare(lambda: events_of(by_curl("/chat/completions", asked, "--no-buffer")))


def test_curl_tool_calls(compare_tools):
    asked = {**CHAT, "tools": [OPENAI_TOOL]}
    first = compare_tools(lambda: json.loads(by_curl("/chat/completions", asked)))
    (call,) = first["choices"][0]["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == ARGUMENTS


def test_curl_embeddings(compare):
    asked = {"model": MODEL, "input": TEXTS}
    compare(lambda: json.loads(by_curl("/embeddings", asked)), own=OF_A_COST)


# Several clients at one gateway


def test_what_one_client_asked_all_others_have(compare):
    """The same body of each: a hit in whatever language, streamed or not."""
    with openai.OpenAI() as client:
        count, whole = compare.asked_by(lambda: client.chat.completions.create(**CHAT).to_dict())
    assert count == 1
    text = whole["choices"][0]["message"]["content"]

    def others():
        streamed = events_of(by_curl("/chat/completions", {**STREAM, **CHAT}, "--no-buffer"))
        of_npm = by_node("openai_client", "chat", {**CHAT, **STREAM})
        joined = ["".join(texts_of(chunks)) for chunks in (streamed, of_npm)]
        return joined, by_node("openai_client", "chat", CHAT)

    assert compare.asked_by(others) == (0, ([text, text], whole))


def texts_of(chunks):
    return (chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)


@pytest.mark.usefixtures("thread_loop")
def test_what_litellm_asked_of_anthropics_curl_has(compare):
    asked = {"messages": MESSAGES, "temperature": 0, "max_tokens": 100}
    count, first = compare.asked_by(
        lambda: litellm.completion(model=f"anthropic/{MODEL}", **asked).choices[0].message.content
    )
    assert count == 1
    content = [{"type": "text", "text": QUESTION}]
    of_litellm = {**MESSAGE, "messages": [{"role": "user", "content": content}]}

    def again():
        return printed(
            *("curl", "--silent", "--fail-with-body", "--data", "@-"),
            *("--header", f"x-api-key: {compare.key}", "--header", "anthropic-version: 2023-06-01"),
            f"{compare.sides.through}/v1/messages",
            told=json.dumps(of_litellm),
        )

    count, answer = compare.asked_by(again)
    assert (count, json.loads(answer)["content"][0]["text"]) == (0, first)
