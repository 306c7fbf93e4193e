"""Keys that would not be the same the next time are refused."""

import pytest
from pydantic import BaseModel

from askonce.integrations.langchain import InMemoryCache
from tests.integrations.langchain.chat_models import CountingChat, SerializableChat


@pytest.mark.parametrize("kind", [CountingChat, SerializableChat])
def test_a_bare_class_in_the_key_is_refused_with_what_to_do(kind):
    class Schema(BaseModel):
        field: int

    events = []
    model = kind(cache=InMemoryCache(observe=events.append))
    with pytest.warns(UserWarning, match="model_json_schema") as record:
        assert model.invoke("hi", response_format=Schema).content == "answer 1"
        assert model.invoke("hi", response_format=Schema).content == "answer 2"
    assert len(record) == 1
    assert "<class " in str(record[0].message)
    assert [(event.kind, event.code) for event in events] == [("refused", "unidentified")] * 2
    schema = Schema.model_json_schema()
    assert model.invoke("hi", response_format=schema).content == "answer 3"
    assert model.invoke("hi", response_format=schema).content == "answer 3"


@pytest.mark.parametrize("thing", [object(), lambda: None, print, [object()]])
def test_an_address_in_the_key_is_refused_with_what_to_do(thing):
    model = CountingChat(cache=InMemoryCache())
    if thing is print:
        model.invoke("hi", tools=thing)
        return
    with pytest.warns(UserWarning, match="address in memory") as record:
        model.invoke("hi", tools=thing)
        model.invoke("hi", tools=thing)
    assert len(record) == 1
    assert len(model.calls) == 2


def test_text_that_speaks_of_classes_and_addresses_is_cached(cache):
    text = "what is <class 'int'> or <object object at 0x7f00deadbeef>?"
    for model in (CountingChat(cache=cache), SerializableChat(cache=cache)):
        model.invoke(text, tools=[{"description": text}])
        model.invoke(text, tools=[{"description": text}])
        assert len(model.calls) == 1


def test_a_model_with_a_cache_can_be_copied_deeply(cache):
    model = CountingChat(cache=cache)
    model.invoke("hi")
    copy = model.model_copy(deep=True)
    assert copy.invoke("hi").content == "answer 1"
    assert copy.cache is cache
