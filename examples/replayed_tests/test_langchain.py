"""LangChain's models: through the client, or through a store."""

import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from askonce.integrations.langchain import StoreCache


@tool
def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"sunny in {city}"


@pytest.mark.parametrize("metal", ["gold", "iron"])
def test_invoke(chat_model, metal):
    answer = chat_model.invoke(f"What is {metal} used for?")
    assert answer.content
    assert answer.usage_metadata["total_tokens"] > 0


def test_stream(chat_model):
    chunks = list(chat_model.stream("What is silver used for?"))
    assert len(chunks) > 2


async def test_astream(chat_model):
    chunks = [chunk async for chunk in chat_model.astream("What is copper used for?")]
    assert "".join(chunk.text for chunk in chunks)


def test_batch(chat_model):
    answers = chat_model.batch(["What is tin used for?", "What is zinc used for?"])
    assert all(answer.content for answer in answers)


def test_bound_tool(chat_model):
    answer = chat_model.bind_tools([weather]).invoke(
        "What is the weather in Madrid? Use the tool."
    )
    assert answer.tool_calls[0]["name"] == "weather"


def test_chain(chat_model):
    prompt = ChatPromptTemplate.from_messages([("system", "You are brief."), ("user", "{what}")])
    chain = prompt | chat_model | StrOutputParser()
    assert chain.invoke({"what": "What is lead used for?"})


def test_through_a_cache(askonce_store):
    model = ChatOpenAI(
        base_url="http://127.0.0.1:8750/v1",
        api_key="none",
        model="smollm2-135m-instruct",
        max_tokens=32,
        cache=StoreCache(askonce_store),
    )
    assert model.invoke("What is nickel used for?").content
