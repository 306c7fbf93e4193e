"""The real SDKs before a real model server: the second time nothing is asked."""

import asyncio
import json

import anthropic
import httpx
import openai
import pydantic
import pytest

import askonce
from tests.http import sdks
from tests.http import server as servers
from tests.http.server import completion, plain

pytest_plugins = ["tests.parts.fixtures"]

HELLO = [{"role": "user", "content": "Say hello in three words."}]
SCHEMA = {
    "type": "object",
    "properties": {"colour": {"type": "string", "maxLength": 8}, "warm": {"type": "boolean"}},
    "required": ["colour", "warm"],
    "additionalProperties": False,
}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tell the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 12}},
            "required": ["city"],
        },
    },
}
WEATHER = [{"role": "user", "content": "What is the weather in Paris? Use the tool."}]
IMAGE = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"


def requests(model):
    """Give requests by their names: path and body."""
    chat = {"model": model, "messages": HELLO, "temperature": 0, "max_tokens": 100}
    shape = {"type": "json_schema", "json_schema": {"name": "c", "schema": SCHEMA, "strict": True}}
    # This model does not call tools however it is asked to; it talks on.
    tools = {"tools": [TOOL], "tool_choice": "required", "messages": WEATHER, "max_tokens": 8}
    usage = {"stream_options": {"include_usage": True}}
    named = {"name": "weather", "input_schema": TOOL["function"]["parameters"]}
    return {
        "chat": ("/v1/chat/completions", chat),
        "usage": ("/v1/chat/completions", {**chat, **usage}),
        "two": ("/v1/chat/completions", {**chat, "n": 2}),
        "tools": ("/v1/chat/completions", {**chat, **tools}),
        "structured": ("/v1/chat/completions", {**chat, "response_format": shape}),
        "responses": ("/v1/responses", {"model": model, "input": HELLO, "temperature": 0}),
        "messages": ("/v1/messages", chat),
        "message tools": (
            "/v1/messages",
            {**chat, **tools, "tools": [named], "tool_choice": {"type": "any"}},
        ),
    }


NAMES = list(requests(""))


COLOURS_AND_PRESENTATIONS = [
    *((colour, stream, name) for colour, stream in (("sync", False), ("async", True)) for name in NAMES),
    ("sync", True, "chat"),
    ("async", False, "chat"),
]


@pytest.fixture(params=sdks.KINDS)
def sdk(request, llm_server):
    address = llm_server.base_url.removesuffix("/v1")
    with sdks.opened(request.param, address, "memory://") as sdk:
        yield sdk


@pytest.mark.parametrize(("sdk", "stream", "name"), COLOURS_AND_PRESENTATIONS, indirect=["sdk"])
def test_the_second_time_nothing_is_asked(sdk, llm_server, name, stream):
    path, body = requests(llm_server.model)[name]
    before = llm_server.requests()
    with askonce.policy(keep={"length"}):
        first = sdk.ask(path, {**body, "stream": stream})
    again = sdk.ask(path, {**body, "stream": stream})
    assert first == again
    other = sdk.ask(path, {**body, "stream": not stream})
    assert llm_server.requests() == before + 1
    events, whole = (first, other) if stream else (other, first)
    assert gist_of(events) == gist_of(whole)
    assert len(events) > 2


def gist_of(answer):
    """Give the texts and the tools' arguments of an answer, whole or in events."""
    found = {}
    for event in answer if isinstance(answer, list) else [answer]:
        for name, piece in _pieces(event):
            found[name] = found.get(name, "") + piece
    return {name: json.loads(text) if name[1] == "arguments" else text for name, text in found.items()}


def _pieces(event):
    for choice in event.get("choices", ()):
        said = choice.get("delta") or choice.get("message") or {}
        if said.get("content"):
            yield (choice["index"], "text"), said["content"]
        for call in said.get("tool_calls") or ():
            yield (choice["index"], "arguments"), call["function"].get("arguments") or ""
    for item in event.get("output", ()):
        for part in item.get("content", ()):
            yield (0, "text"), part["text"]
    for block in event.get("content", ()) if event.get("type") == "message" else ():
        yield from _of_block(block)
    kind = event.get("type", "")
    if kind == "response.output_text.delta":
        yield (0, "text"), event["delta"]
    elif kind == "content_block_delta":
        yield from _of_block(event["delta"])


def _of_block(block):
    if "text" in block:
        yield (0, "text"), block["text"]
    elif "partial_json" in block:
        yield (0, "arguments"), block["partial_json"]
    elif "input" in block:
        yield (0, "arguments"), json.dumps(block["input"])


def test_the_helpers_of_the_sdks(llm_server):
    """Parsed outputs and accumulated streams come from one entry too."""

    class Colour(pydantic.BaseModel):
        colour: str = pydantic.Field(max_length=8)
        warm: bool

    ask = {"model": llm_server.model, "messages": HELLO, "temperature": 0}
    before = llm_server.requests()
    with askonce.http_client("memory://") as http:
        client = openai.OpenAI(base_url=llm_server.base_url, api_key="k", http_client=http)
        parsed = client.chat.completions.parse(**ask, response_format=Colour)
        with client.chat.completions.stream(**ask, response_format=Colour) as stream:
            streamed = stream.get_final_completion()
        assert parsed.choices[0].message.parsed == streamed.choices[0].message.parsed
        assert isinstance(streamed.choices[0].message.parsed, Colour)
        raw = client.chat.completions.with_raw_response.parse(**ask, response_format=Colour)
        assert raw.headers["cache-status"] == "askonce; hit"
        assert askonce.cache_of(client).forget(raw.http_request) == 1
        client.chat.completions.parse(**ask, response_format=Colour)
    assert llm_server.requests() == before + 2


def test_accumulated_messages(llm_server):
    before = llm_server.requests()
    with askonce.http_client("memory://") as http:
        address = llm_server.base_url.removesuffix("/v1")
        client = anthropic.Anthropic(base_url=address, api_key="k", http_client=http)
        ask = {"model": "m", "messages": HELLO, "max_tokens": 100, "extra_body": {"temperature": 0}}
        with client.messages.stream(**ask) as stream:
            streamed = stream.get_final_message()
        whole = client.messages.create(**ask)
    assert whole.content[0].text == streamed.content[0].text
    assert (whole.stop_reason, whole.usage) == (streamed.stop_reason, streamed.usage)
    assert llm_server.requests() == before + 1


@pytest.mark.parametrize("first", ["float", "base64"])
def test_embeddings_are_asked_for_input_by_input(sdk, llm_server, first):
    before = llm_server.requests()
    second = {"float": "base64", "base64": "float"}[first]

    def embed(encoding, *inputs):
        body = {"model": llm_server.model, "input": list(inputs), "encoding_format": encoding}
        return [item["embedding"] for item in sdk.ask("/v1/embeddings", body)["data"]]

    one = embed(first, "a", "b", "a")
    two = embed(first, "b", "c", "a")
    assert one[0] == one[2] == two[2]
    assert two[0] == one[1]
    embed(second, "c", "b", "a")
    assert llm_server.requests() == before + 2


def test_embeddings_as_the_sdk_asks_for_them(llm_server):
    """By default in base64, which it turns into numbers; with and without a cache alike."""
    ask = {"model": llm_server.model, "input": ["a", "b"]}
    bare = openai.OpenAI(base_url=llm_server.base_url, api_key="k").embeddings.create(**ask)
    with askonce.http_client("memory://") as http:
        client = openai.OpenAI(base_url=llm_server.base_url, api_key="k", http_client=http)
        first = client.embeddings.create(**ask)
        again = client.embeddings.create(**ask)
    assert first == bare
    assert (again.model, again.object) == (bare.model, bare.object)
    for one, other in zip(again.data, bare.data, strict=True):
        assert (one.embedding, one.index) == (other.embedding, other.index)
    assert again.usage.total_tokens == 0


def test_what_the_model_cannot_do_looks_as_it_does_without_a_cache(sdk, llm_server):
    part = {"type": "image_url", "image_url": {"url": IMAGE}}
    messages = [{"role": "user", "content": [part, {"type": "text", "text": "What is it?"}]}]
    body = {"model": llm_server.model, "messages": messages}
    before = llm_server.requests()
    with sdks.opened("sync", llm_server.base_url.removesuffix("/v1")) as bare:
        without = bare.ask("/v1/chat/completions", body)
    assert [sdk.ask("/v1/chat/completions", body) for _ in range(2)] == [without] * 2
    assert llm_server.requests() == before + 3


@pytest.mark.parametrize("kind", sdks.KINDS)
def test_images_count(kind):
    def looking(asked):
        return plain(completion(f"{asked.body.count(b'A')} times A"))

    def body(data):
        part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
        return {"model": "m", "messages": [{"role": "user", "content": [part]}]}

    with servers.running(looking) as provider, sdks.opened(kind, provider.address, "memory://") as sdk:
        for data in ("AAAA", "AAAB", "AAAA"):
            said = sdk.ask("/v1/chat/completions", body(data))
        assert said["choices"][0]["message"]["content"] == "4 times A"
        assert provider.count == 2


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_of_httpx_in_openai_s_sdk(llm_server, stream):
    """Whose SDK asks httpx2 for itself, but takes what is older."""
    ask = {"model": llm_server.model, "messages": HELLO, "temperature": 0, "stream": stream}
    before = llm_server.requests()

    def of(answer):
        return [event.to_dict() for event in answer] if stream else answer.to_dict()

    with askonce.http_client("memory://", library="httpx") as http:
        assert isinstance(http, httpx.Client)
        client = openai.OpenAI(base_url=llm_server.base_url, api_key="k", http_client=http)
        assert of(client.chat.completions.create(**ask)) == of(client.chat.completions.create(**ask))
    assert llm_server.requests() == before + 1


def test_an_async_client_of_httpx_in_openai_s_sdk(llm_server):
    ask = {"model": llm_server.model, "messages": HELLO, "temperature": 0, "seed": 1}
    before = llm_server.requests()

    async def run():
        async with askonce.async_http_client("memory://", library="httpx") as http:
            client = openai.AsyncOpenAI(base_url=llm_server.base_url, api_key="k", http_client=http)
            first = await client.chat.completions.create(**ask)
            events = await client.chat.completions.create(**ask, stream=True)
            return first, [event async for event in events]

    first, events = asyncio.run(run())
    text = "".join(event.choices[0].delta.content or "" for event in events)
    assert text == first.choices[0].message.content
    assert llm_server.requests() == before + 1


def test_models_are_listed_as_without_a_cache(llm_server):
    bare = openai.OpenAI(base_url=llm_server.base_url, api_key="k").models.list()
    with askonce.http_client("memory://") as http:
        client = openai.OpenAI(base_url=llm_server.base_url, api_key="k", http_client=http)
        assert client.models.list().data[0].id == bare.data[0].id


def test_the_sdks_keep_their_own_defaults():
    with askonce.http_client("memory://") as http:
        for made, plain_one in (
            (openai.OpenAI(api_key="k", http_client=http), openai.OpenAI(api_key="k")),
            (anthropic.Anthropic(api_key="k", http_client=http), anthropic.Anthropic(api_key="k")),
        ):
            assert made.timeout == plain_one.timeout
            assert made.max_retries == plain_one.max_retries
            pools = [one._client._transport for one in (made, plain_one)]
            pools[0] = pools[0].inner
            for name in ("_max_connections", "_max_keepalive_connections", "_keepalive_expiry"):
                assert len({getattr(pool._pool, name) for pool in pools}) == 1
            assert made._client.follow_redirects == plain_one._client.follow_redirects
            plain_one.close()
