"""Each defect of LangChain's caches that takes a wrapped model to repair, by its name."""

import asyncio
import subprocess
import sys
import warnings
from typing import Annotated, TypedDict

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field, create_model

from askonce.integrations.langchain import cached
from askonce.stores.memory import MemoryStore
from tests.integrations.langchain.cached_models import StreamingChat, StreamingLLM
from tests.integrations.langchain.chat_models import CountingLLM, SerializableChat


def asks(model, *calls):
    """Count how often a model is really asked by these calls, each made twice."""
    for _ in range(2):
        for call in calls:
            call(model)
    return len(model.calls)


async def test_defect_1_streams_are_not_cached():
    model = cached(StreamingChat(), store=MemoryStore())
    for _ in range(3):
        list(model.stream("hi"))
        [chunk async for chunk in model.astream("hi")]
        model.invoke("hi")
    assert len(model.calls) == 1


def test_defect_2_hits_emit_no_tokens():
    class Tokens(BaseCallbackHandler):
        tokens = []

        def on_llm_new_token(self, token, **kwargs):
            self.tokens.append(token)

    model = cached(StreamingChat(), store=MemoryStore())
    list(model.stream("hi"))
    list(model.stream("hi", {"callbacks": [Tokens()]}))
    assert Tokens.tokens == ["answer", " 1", " of", " streaming", "", ""]
    Tokens.tokens.clear()
    completion = cached(StreamingLLM(), store=MemoryStore())
    list(completion.stream("x"))
    list(completion.stream("x", {"callbacks": [Tokens()]}))
    assert Tokens.tokens == list("x: 1")


def test_defect_7_completions_ignore_the_arguments_of_a_call():
    model = cached(CountingLLM(), store=MemoryStore())
    answers = {
        model.invoke("hi"),
        model.invoke("hi", temperature=0.9),
        model.invoke("hi", stop=["x"]),
        model.bind(model="B").invoke("hi"),
        model.bind(temperature=0.9).invoke("hi"),
    }
    assert answers == {"hi: 1", "hi: 2", "hi: 3", "hi: 4"}
    assert model.bind(model="B").batch(["hi", "ho"]) == ["hi: 4", "ho: 5"]


@pytest.mark.parametrize("model", [SerializableChat(), StreamingChat()])
def test_defect_8_keys_are_stale_after_a_change(model):
    model = cached(model, store=MemoryStore())
    model.invoke("hi")
    changed = model.model_copy(update={"temperature": 0.5})
    assert changed.invoke("hi").content.startswith("answer 2")
    model.temperature = 0.7
    assert model.invoke("hi").content.startswith("answer 3")
    model.temperature = 0.5
    assert model.invoke("hi").content.startswith("answer 2")
    model.model_name = "another"
    assert model.invoke("hi").content.startswith("answer 4")


def test_defect_8_nested_settings_are_seen_as_well():
    class Nested(StreamingChat):
        model_kwargs: dict = Field(default_factory=dict)

    model = cached(Nested(model_kwargs={"logit_bias": {"1": 2}}), store=MemoryStore())
    model.invoke("hi")
    model.model_kwargs["logit_bias"]["1"] = 3
    assert model.invoke("hi").content == "answer 2 of streaming"


def schemas():
    class Before(BaseModel):
        """Say where."""

        x: int

    class Inner(BaseModel):
        y: int

    yield Before
    yield create_model("Before", __doc__="Say where.", x=(str, ...))
    yield create_model("Before", __doc__="Say when.", x=(int, ...))
    yield create_model("Before", __doc__="Say where.", x=(int, Field(description="the column")))
    yield create_model("Before", __doc__="Say where.", x=(Inner, ...))
    yield create_model("Before", __doc__="Say where.", x=(create_model("Inner", y=(str, ...)), ...))
    yield TypedDict("Before", {"x": int})
    yield TypedDict("Before", {"x": Annotated[int, ..., "the column"]})


def test_defect_9_schemas_are_keyed_by_their_names():
    model = cached(StreamingChat(), store=MemoryStore())
    answers = [model.invoke("hi", response_format=schema).content for schema in schemas()]
    assert len(set(answers)) == len(answers)
    assert [model.invoke("hi", response_format=schema).content for schema in schemas()] == answers


def test_defect_9_with_structured_output_of_openais_model():
    class Asked(ChatOpenAI):
        calls: list = Field(default_factory=list, exclude=True)

        def _generate(self, messages, stop=None, run_manager=None, **kwargs):
            self.calls.append(kwargs)
            from langchain_core.outputs import ChatGeneration, ChatResult

            shape = kwargs["response_format"]
            value = 1 if shape.model_fields["x"].annotation is int else "one"
            message = AIMessage("", additional_kwargs={"parsed": shape(x=value)})
            return ChatResult(generations=[ChatGeneration(message=message)])

    model = cached(Asked(api_key="x", model="gpt-4o"), store=MemoryStore())
    numbers, texts = (create_model("P", x=(kind, ...)) for kind in (int, str))
    for _ in range(2):
        assert model.with_structured_output(numbers).invoke("hi") == numbers(x=1)
        assert model.with_structured_output(texts).invoke("hi") == texts(x="one")
    assert len(model.calls) == 2


def test_defect_9_tools_are_keyed_by_all_that_the_model_is_told():
    def add(a: int, b: int) -> int:
        """Add numbers."""

    first = add

    def add(a: int, b: int) -> int:
        """Multiply numbers."""

    model = cached(StreamingChat(), store=MemoryStore())
    calls = [lambda m, f=f: m.bind_tools([f]).invoke("hi") for f in (first, add)]
    calls += [lambda m, f=f: m.bind(tools=[f]).stream("hi") for f in ()]
    assert asks(model, *calls) == 2
    raw = cached(CountingLLM(), store=MemoryStore())
    assert asks(raw, *[lambda m, f=f: m.invoke("hi", tools=[f]) for f in (first, add, first)]) == 2


@pytest.mark.parametrize("where", ["arguments", "settings"])
def test_defect_10_an_address_in_the_key_never_hits(where):
    class Thing:
        pass

    class Holding(StreamingChat):
        helper: object = None

    store = MemoryStore()
    helper = Thing()
    model = cached(Holding(helper=helper if where == "settings" else None), store=store)
    arguments = {"thing": helper} if where == "arguments" else {}
    with pytest.warns(UserWarning, match=r"not cached: its (setting 'helper'|argument 'thing') holds a .*Thing.*ignore="):
        model.invoke("hi", **arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.invoke("hi", **arguments)
        assert len(list(model.stream("hi", **arguments))) == 6
    assert not list(store.keys())
    assert len(model.calls) == 3
    indifferent = cached(model, store=store, ignore=["thing", "helper"])
    indifferent.invoke("hi", **arguments)
    assert indifferent.invoke("hi", **arguments).additional_kwargs == {"cache_hit": True}


KEY_OF = """
import sys
from tests.integrations.langchain.cached_models import StreamingChat
from askonce.integrations.langchain import cached
from pydantic import BaseModel
class Answer(BaseModel):
    x: dict[str, int]
model = cached(StreamingChat(), store="memory://")
arguments = {"response_format": Answer, "stop": {"a", "b", "c"}, "n": 1}
print(model._question([], None, arguments).key)
"""


def test_defect_10_keys_are_the_same_in_every_process():
    keys = {
        subprocess.run(
            [sys.executable, "-W", "error", "-c", KEY_OF],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(keys) == 1


def test_defect_11_tenants_share_answers_unless_they_have_a_namespace_each():
    store = MemoryStore()
    tenants = [
        cached(SerializableChat(api_key=f"secret-{name}"), store=store, namespace=name)
        for name in ("one", "two")
    ]
    for model in tenants:
        assert model.invoke("hi").content == "answer 1"
    assert [len(model.calls) for model in tenants] == [1, 1]
    assert all(b"secret-" not in blob for blob in store.read(list(store.keys())))


def test_defect_11_another_server_is_another_model(monkeypatch):
    def key(**settings):
        model = cached(ChatOpenAI(model="m", **{"api_key": "x", **settings}), store="memory://")
        return model._question([], None, {}).key

    assert key() == key(api_key="another")
    assert key() != key(base_url="http://localhost:1/v1")
    plain = key()
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:2/v1")
    assert key() != plain


def test_a_credential_among_the_headers_is_in_no_key():
    model = cached(StreamingChat(), store="memory://")
    headers = [{"Authorization": "a", "X-Beta": "1"}, {"authorization": "b", "X-Beta": "1"}, {"X-Beta": "2"}]
    keys = [model._question([], None, {"extra_headers": each}).key for each in headers]
    assert keys[0] == keys[1] != keys[2]
