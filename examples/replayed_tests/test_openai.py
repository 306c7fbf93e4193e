"""OpenAI's SDK: plain answers, streams, tools, structured output, several choices, responses."""

import json

import openai
import pytest

import askonce

COUNTRIES = ["France", "Japan", "Kenya", "Peru", "Norway", "Egypt"]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tell the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 12}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
COLOUR = {
    "type": "json_schema",
    "json_schema": {
        "name": "colour",
        "schema": {
            "type": "object",
            "properties": {
                "colour": {"type": "string", "maxLength": 8},
                "warm": {"type": "boolean"},
            },
            "required": ["colour", "warm"],
        },
    },
}


def text_of(chunks):
    return "".join(
        chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices
    )


@pytest.mark.parametrize("country", COUNTRIES)
def test_capital(client, ask, country):
    answer = client.chat.completions.create(**ask(f"What is the capital of {country}?"))
    assert answer.choices[0].message.content
    assert answer.usage.total_tokens > 0


@pytest.mark.parametrize("country", COUNTRIES[:4])
def test_capital_streamed(client, ask, country):
    request = ask(f"Name one city in {country}.", stream=True)
    chunks = list(client.chat.completions.create(**request))
    assert len(chunks) > 2
    assert text_of(chunks)


@pytest.mark.parametrize("country", COUNTRIES[:2])
async def test_capital_async(async_client, ask, country):
    # The same question as above: its cassette serves both.
    answer = await async_client.chat.completions.create(
        **ask(f"What is the capital of {country}?")
    )
    assert answer.choices[0].message.content


@pytest.mark.parametrize("country", COUNTRIES[:2])
async def test_capital_streamed_async(async_client, ask, country):
    request = ask(f"Name one river in {country}.", stream=True)
    chunks = [chunk async for chunk in await async_client.chat.completions.create(**request)]
    assert text_of(chunks)


def test_recorded_as_a_stream_and_asked_for_as_a_plain_answer(client, ask):
    request = ask("Name a fruit.")
    streamed = text_of(client.chat.completions.create(**request, stream=True))
    assert client.chat.completions.create(**request).choices[0].message.content == streamed


def test_usage_at_the_end_of_a_stream(client, ask):
    request = ask("Name a tree.", stream=True, stream_options={"include_usage": True})
    *_, last = client.chat.completions.create(**request)
    assert last.usage.completion_tokens > 0


@pytest.mark.parametrize("city", ["Paris", "Oslo", "Lima"])
def test_tool_call(client, ask, city):
    request = ask(f"What is the weather in {city}? Use the tool.", tools=[WEATHER], temperature=0)
    (call,) = client.chat.completions.create(**request).choices[0].message.tool_calls
    assert call.function.name == "weather"
    assert set(json.loads(call.function.arguments)) == {"city"}


def test_tool_call_streamed(client, ask):
    request = ask("What is the weather in Rome? Use the tool.", tools=[WEATHER], temperature=0)
    chunks = client.chat.completions.create(**request, stream=True)
    pieces = [
        call.function.arguments or ""
        for chunk in chunks
        if chunk.choices
        for call in chunk.choices[0].delta.tool_calls or ()
    ]
    assert set(json.loads("".join(pieces))) == {"city"}


@pytest.mark.parametrize("thing", ["the sky", "a ripe tomato", "grass"])
def test_structured_output(client, ask, thing):
    request = ask(f"What colour is {thing}?", response_format=COLOUR, max_tokens=64)
    answer = json.loads(client.chat.completions.create(**request).choices[0].message.content)
    assert set(answer) == {"colour", "warm"}


def test_two_choices(client, ask):
    answer = client.chat.completions.create(**ask("Name a bird.", n=2))
    assert len(answer.choices) == 2


def test_log_probabilities(client, ask):
    request = ask("Name a fish.", logprobs=True, top_logprobs=2, max_tokens=4)
    answer = client.chat.completions.create(**request)
    assert all(token.logprob <= 0 for token in answer.choices[0].logprobs.content)


def test_samples_are_different_recordings(client, ask):
    answers = set()
    for sample in range(2):
        with askonce.policy(sample=sample):
            answer = client.chat.completions.create(**ask("Tell me a number.", temperature=1.5))
            answers.add(answer.id)
    assert len(answers) == 2


def test_responses(client):
    answer = client.responses.create(
        model="smollm2-135m-instruct", input="Say hello.", temperature=0, max_output_tokens=24
    )
    assert answer.output_text


def test_completion(client):
    answer = client.completions.create(
        model="smollm2-135m-instruct", prompt="Once upon a time", temperature=0, max_tokens=12
    )
    assert answer.choices[0].text


@pytest.mark.askonce(errors=True)
def test_error(client, ask):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{**ask(""), "messages": "none"})
    assert caught.value.status_code == 400
