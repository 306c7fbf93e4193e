"""Clients of real SDKs, whose answers are in `cassettes/`. None of them has a key."""

import anthropic
import openai
import pytest
from langchain_openai import ChatOpenAI

ADDRESS = "http://127.0.0.1:8750"
MODEL = "smollm2-135m-instruct"


@pytest.fixture
def client(askonce_client):
    return openai.OpenAI(base_url=f"{ADDRESS}/v1", api_key="none", http_client=askonce_client)


@pytest.fixture
def async_client(askonce_async_client):
    return openai.AsyncOpenAI(
        base_url=f"{ADDRESS}/v1", api_key="none", http_client=askonce_async_client
    )


@pytest.fixture
def claude(askonce_client):
    return anthropic.Anthropic(base_url=ADDRESS, api_key="none", http_client=askonce_client)


@pytest.fixture
def async_claude(askonce_async_client):
    return anthropic.AsyncAnthropic(
        base_url=ADDRESS, api_key="none", http_client=askonce_async_client
    )


@pytest.fixture
def chat_model(askonce_client, askonce_async_client):
    return ChatOpenAI(
        base_url=f"{ADDRESS}/v1",
        api_key="none",
        model=MODEL,
        temperature=0,
        max_tokens=32,
        http_client=askonce_client,
        http_async_client=askonce_async_client,
    )


@pytest.fixture
def ask():
    """What every request here has in common: a small model and short answers."""

    def request(question, **more):
        messages = [{"role": "user", "content": question}]
        return {"model": MODEL, "max_tokens": 32, "messages": messages, **more}

    return request
