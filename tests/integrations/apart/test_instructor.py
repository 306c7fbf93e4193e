"""Instructor over our transport."""

import instructor
import openai
import pytest
from instructor.core import InstructorRetryException
from pydantic import BaseModel, Field

import askonce
from askonce.integrations.instructor import valid

from ..canned import Provider, chat_answer, tool_call
from ..sections import run_section

pytest_plugins = ["tests.parts.fixtures"]

ASK = {
    "model": "m",
    "messages": [{"role": "user", "content": "Name a city and how many people live there."}],
    "temperature": 0,
    "max_tokens": 200,
}


class City(BaseModel):
    name: str = Field(max_length=40)
    people: int


def from_server(http, llm_server):
    client = openai.OpenAI(base_url=llm_server.base_url, api_key="k", http_client=http)
    return instructor.from_openai(client, mode=instructor.Mode.JSON_SCHEMA)


def from_provider(http, provider):
    client = openai.OpenAI(base_url=provider.base_url, api_key="k", http_client=http)
    return instructor.from_openai(client)


def test_a_model_is_asked_for_once(llm_server):
    before = llm_server.requests()
    with askonce.http_client("memory://") as http:
        client = from_server(http, llm_server)
        first = client.create(response_model=City, **ASK)
        assert client.create(response_model=City, **ASK).model_dump() == first.model_dump()
    assert llm_server.requests() == before + 1


async def test_a_model_is_asked_for_once_in_the_other_colour(llm_server):
    before = llm_server.requests()
    async with askonce.async_http_client("memory://") as http:
        asker = openai.AsyncOpenAI(base_url=llm_server.base_url, api_key="k", http_client=http)
        client = instructor.from_openai(asker, mode=instructor.Mode.JSON_SCHEMA)
        first = await client.create(response_model=City, **ASK)
        again = await client.create(response_model=City, **ASK)
        assert again.model_dump() == first.model_dump()
    assert llm_server.requests() == before + 1


def test_a_streamed_model_is_asked_for_once(llm_server):
    before = llm_server.requests()
    with askonce.http_client("memory://") as http:
        client = from_server(http, llm_server)
        first = list(client.create_partial(response_model=City, **ASK))
        again = list(client.create_partial(response_model=City, **ASK))
        assert [part.model_dump() for part in first] == [part.model_dump() for part in again]
    assert llm_server.requests() == before + 1


def test_the_schema_is_part_of_the_question():
    provider = Provider(
        chat_answer(tool_call("City", {"name": "Paris", "people": 2})),
        chat_answer(tool_call("City", {"name": "Paris", "people": 3, "river": "Seine"})),
    )
    old = City

    def changed():
        class City(old):
            river: str

        return City

    with provider.client("memory://") as http:
        client = from_provider(http, provider)
        for _ in range(2):
            assert client.create(response_model=old, **ASK).people == 2
            assert client.create(response_model=changed(), **ASK).river == "Seine"
    assert len(provider.received) == 2


def test_a_second_run_repeats_a_retry_without_asking(tmp_path):
    provider = Provider(
        chat_answer(tool_call("City", {"name": "Paris", "people": "many"})),
        chat_answer(tool_call("City", {"name": "Paris", "people": 2})),
    )
    for _ in range(2):
        with provider.client(f"sqlite:///{tmp_path}/cache.db") as http:
            assert from_provider(http, provider).create(response_model=City, **ASK).people == 2
    assert len(provider.received) == 2


def test_what_is_not_valid_can_be_asked_for_again():
    bad = chat_answer(tool_call("City", {"name": "Paris", "people": "many"}))
    good = chat_answer(tool_call("City", {"name": "Paris", "people": 2}))
    provider = Provider(bad, good)
    with provider.client("memory://", keep=valid(City)) as http:
        client = from_provider(http, provider)
        with pytest.raises(InstructorRetryException):
            client.create(response_model=City, max_retries=0, **ASK)
        for _ in range(2):
            assert client.create(response_model=City, max_retries=0, **ASK).people == 2
    assert len(provider.received) == 2


def test_a_failure_can_be_asked_for_anew():
    bad = chat_answer(tool_call("City", {"name": "Paris", "people": "many"}))
    good = chat_answer(tool_call("City", {"name": "Paris", "people": 2}))
    provider = Provider(bad, good)
    with provider.client("memory://") as http:
        client = from_provider(http, provider)
        for _ in range(2):
            with pytest.raises(InstructorRetryException):
                client.create(response_model=City, max_retries=0, **ASK)
        with askonce.policy(no_cache=True):
            assert client.create(response_model=City, max_retries=0, **ASK).people == 2
        assert client.create(response_model=City, max_retries=0, **ASK).people == 2
    assert len(provider.received) == 2


@pytest.mark.parametrize(
    "reply, kept",
    [
        (chat_answer(tool_call("City", {"name": "Paris", "people": 2})), True),
        (chat_answer(tool_call("City", {"name": "Paris"})), False),
        (chat_answer(tool_call("Other", {"name": "Paris"})), True),
        (chat_answer({"role": "assistant", "content": "Hello."}), True),
        ({"content": [{"type": "text", "text": "Hello."}]}, True),
        ({"content": [{"type": "tool_use", "name": "City", "input": {"name": "Paris"}}]}, False),
        ({"content": [{"type": "tool_use", "name": "City", "input": {"name": "P", "people": 2}}]}, True),
        ({"data": []}, True),
    ],
)
def test_what_is_valid(reply, kept):
    assert valid(City)(reply) is kept


def test_the_guide_runs(tmp_path, llm_server, monkeypatch):
    run_section("Instructor", tmp_path, llm_server.base_url, monkeypatch)
