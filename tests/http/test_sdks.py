"""The real SDKs before a real model server: the second time nothing is asked."""

import anthropic
import openai
import pytest

import askonce

pytest_plugins = ["tests.parts.fixtures"]

MESSAGES = [{"role": "user", "content": "Say hello in three words."}]


@pytest.fixture
def client(llm_server):
    with askonce.http_client("memory://") as http:
        yield openai.OpenAI(base_url=llm_server.base_url, api_key="k", http_client=http)


@pytest.fixture
async def aclient(llm_server):
    async with askonce.async_http_client("memory://") as http:
        yield openai.AsyncOpenAI(base_url=llm_server.base_url, api_key="k", http_client=http)


def test_a_plain_answer_is_asked_for_once(client, llm_server):
    before = llm_server.requests()
    ask = {"model": "m", "messages": MESSAGES, "temperature": 0, "max_tokens": 100}
    first = client.chat.completions.create(**ask)
    second = client.chat.completions.create(**ask)
    assert first.to_dict() == second.to_dict()
    assert llm_server.requests() == before + 1


def test_a_stream_is_asked_for_once_event_by_event(client, llm_server):
    before = llm_server.requests()
    ask = {"model": "m", "messages": MESSAGES, "temperature": 0, "max_tokens": 100, "stream": True}
    first = [chunk.to_dict() for chunk in client.chat.completions.create(**ask)]
    second = [chunk.to_dict() for chunk in client.chat.completions.create(**ask)]
    assert first == second
    assert llm_server.requests() == before + 1


def test_one_entry_serves_streams_and_plain_answers(client, llm_server):
    before = llm_server.requests()
    ask = {"model": "m", "messages": MESSAGES, "temperature": 0, "max_tokens": 100}
    stream = list(client.chat.completions.create(**ask, stream=True))
    plain = client.chat.completions.create(**ask)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert plain.choices[0].message.content == text
    other = {**ask, "max_tokens": 101}
    plain = client.chat.completions.create(**other)
    stream = list(client.chat.completions.create(**other, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert plain.choices[0].message.content == text
    assert llm_server.requests() == before + 2


async def test_async_streams_too(aclient, llm_server):
    before = llm_server.requests()
    ask = {"model": "m", "messages": MESSAGES, "temperature": 0, "max_tokens": 99, "stream": True}
    first = [chunk.to_dict() async for chunk in await aclient.chat.completions.create(**ask)]
    second = [chunk.to_dict() async for chunk in await aclient.chat.completions.create(**ask)]
    assert first == second
    assert llm_server.requests() == before + 1


def test_embeddings_are_asked_for_input_by_input(client, llm_server):
    before = llm_server.requests()
    one = client.embeddings.create(model="m", input=["a", "b", "a"])
    two = client.embeddings.create(model="m", input=["b", "c", "a"])
    again = client.embeddings.create(model="m", input=["c", "b"], encoding_format="float")
    assert one.data[0].embedding == one.data[2].embedding == two.data[2].embedding
    assert two.data[0].embedding == one.data[1].embedding == again.data[1].embedding
    assert llm_server.requests() == before + 2


def test_anthropic_messages(llm_server):
    with askonce.http_client("memory://") as http:
        address = llm_server.base_url.removesuffix("/v1")
        client = anthropic.Anthropic(base_url=address, api_key="k", http_client=http)
        ask = {"model": "m", "messages": MESSAGES, "temperature": 0, "max_tokens": 100}
        before = llm_server.requests()
        first = client.messages.create(**ask)
        second = client.messages.create(**ask)
        assert first.to_dict() == second.to_dict()
        with client.messages.stream(**ask) as stream:
            assert stream.get_final_message().content[0].text == first.content[0].text
        assert llm_server.requests() == before + 1


def test_only_if_cached_answers_504(client, llm_server):
    with askonce.policy(only_if_cached=True), pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "new"}])
    assert caught.value.status_code == 504
