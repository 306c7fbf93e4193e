"""LiteLLM: over our transport, and with our cache in its hook."""

import asyncio
import inspect
import json
import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

import askonce
from askonce.integrations.litellm import IGNORED, LiteLLMCache

from ..sections import run_section

pytest_plugins = ["tests.parts.fixtures"]
pytestmark = pytest.mark.filterwarnings("ignore:.*`ReadOnly` qualifier.*:UserWarning")

TOOL = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object", "properties": {}}},
}


@pytest.fixture(autouse=True)
def thread_loop(request):
    """Be the loop of the thread, which LiteLLM's sync calls else make and leave open."""
    if inspect.iscoroutinefunction(request.function):
        yield
        return
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    loop.close()
    asyncio.set_event_loop(None)


@pytest.fixture
def ask(llm_server):
    return {
        "model": "openai/m",
        "messages": [{"role": "user", "content": "Say hello in three words."}],
        "api_base": llm_server.base_url,
        "api_key": "k",
        "temperature": 0,
        "max_tokens": 100,
    }


@pytest.fixture
def store():
    with askonce.open_store("memory://") as store:
        yield store


@pytest.fixture
def cache(store, monkeypatch):
    made = LiteLLMCache(store)
    monkeypatch.setattr(litellm, "cache", made)
    return made


@pytest.fixture
def sessions(store, monkeypatch):
    client = askonce.http_client(store, library="httpx")
    monkeypatch.setattr(litellm, "client_session", client)
    monkeypatch.setattr(litellm, "aclient_session", askonce.async_http_client(store, library="httpx"))
    litellm.in_memory_llm_clients_cache.flush_cache()
    yield
    litellm.in_memory_llm_clients_cache.flush_cache()


def text_of(answer):
    return answer.choices[0].message.content


def text_of_stream(chunks):
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


async def kept(store):
    """Wait until LiteLLM's task has written, which it does after the answer was given."""
    while not list(store.keys()):
        await asyncio.sleep(0)


@pytest.fixture(params=["cache", "sessions"])
def way(request):
    return request.getfixturevalue(request.param)


def test_an_answer_is_asked_for_once(way, ask, llm_server):
    before = llm_server.requests()
    first = litellm.completion(**ask)
    again = litellm.completion(**ask)
    streamed = litellm.completion(**ask, stream=True)
    assert text_of(again) == text_of(first) == text_of_stream(streamed)
    assert llm_server.requests() == before + 1


def test_a_stream_is_asked_for_once(way, ask, llm_server):
    before = llm_server.requests()
    first = text_of_stream(litellm.completion(**ask, stream=True))
    assert text_of_stream(litellm.completion(**ask, stream=True)) == first
    assert text_of(litellm.completion(**ask)) == first
    assert llm_server.requests() == before + 1


async def test_in_the_other_colour(way, ask, llm_server, store):
    before = llm_server.requests()
    first = text_of(await litellm.acompletion(**ask))
    await kept(store)
    assert text_of(await litellm.acompletion(**ask)) == first
    streamed = await litellm.acompletion(**ask, stream=True)
    assert text_of_stream([chunk async for chunk in streamed]) == first
    assert text_of(await asyncio.to_thread(litellm.completion, **ask)) == first
    assert llm_server.requests() == before + 1


async def test_a_stream_in_the_other_colour(way, ask, llm_server, store):
    before = llm_server.requests()
    streamed = await litellm.acompletion(**ask, stream=True)
    first = text_of_stream([chunk async for chunk in streamed])
    await kept(store)
    assert text_of(await litellm.acompletion(**ask)) == first
    assert llm_server.requests() == before + 1


def test_tools_and_many_messages(way, ask, llm_server):
    turn = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]
    question = {**ask, "messages": [*turn * 4, *ask["messages"]], "tools": [TOOL]}
    before = llm_server.requests()
    first = litellm.completion(**question)
    assert text_of(litellm.completion(**question)) == text_of(first)
    assert llm_server.requests() == before + 1


def test_embeddings_go_by_the_transport(sessions, llm_server):
    ask = {"model": "openai/m", "api_base": llm_server.base_url, "api_key": "k"}
    before = llm_server.requests()
    first = litellm.embedding(input=["a", "b", "a"], **ask)
    again = litellm.embedding(input=["b", "a"], **ask)
    assert again.data[0]["embedding"] == first.data[1]["embedding"]
    assert llm_server.requests() == before + 1


def test_a_router_asks_once(cache, ask, llm_server):
    settings = {**ask, "model": "openai/m"}
    messages = settings.pop("messages")
    router = litellm.Router(
        model_list=[{"model_name": "mine", "litellm_params": settings}], cache_responses=True
    )
    before = llm_server.requests()
    first = router.completion(model="mine", messages=messages)
    assert text_of(router.completion(model="mine", messages=messages)) == text_of(first)
    assert llm_server.requests() == before + 1


def test_an_answer_cut_short_is_not_kept(cache, ask, llm_server, store):
    litellm.completion(**{**ask, "max_tokens": 2})
    assert not list(store.keys())


def test_controls_of_a_call(cache, ask, llm_server):
    before = llm_server.requests()
    litellm.completion(**ask, cache={"no-store": True})
    litellm.completion(**ask)
    litellm.completion(**ask, cache={"no-cache": True})
    litellm.completion(**ask, cache={"namespace": "other"})
    litellm.completion(**ask, cache={"ttl": 60})
    assert llm_server.requests() == before + 4


def test_what_has_no_stable_content_is_not_cached():
    told = []
    made = LiteLLMCache("memory://", observe=told.append)
    assert made.get_cache_key(**BASE, new_argument=object()) == ""
    assert "object" in told[0].reason
    assert not made.should_use_cache(**BASE, new_argument=object())
    assert not made.should_use_cache(**BASE, store=True)
    assert made.should_use_cache(**BASE)


# Keys

BASE = {
    "model": "openai/m",
    "messages": [{"role": "user", "content": "a"}],
    "api_base": "http://a",
    "extra_body": {"top_k": 1},
    "extra_headers": {"anthropic-beta": "1"},
    "num_ctx": 1,
    "tools": [TOOL],
}


KEYS = LiteLLMCache("memory://")
key = KEYS.get_cache_key


@pytest.mark.parametrize(
    "other",
    [
        {"model": "openai/n"},
        {"messages": [{"role": "system", "content": "a"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]},
        {"api_base": "http://b"},
        {"extra_body": {"top_k": 2}},
        {"extra_headers": {"anthropic-beta": "2"}},
        {"num_ctx": 2},
        {"num_ctx": "1"},
        {"num_ctx": True},
        {"never_heard_of": 1},
        {"tools": []},
        {"cache": {"namespace": "other"}},
    ],
    ids=str,
)
def test_what_decides_the_answer_changes_the_key(other):
    assert key(**BASE) != key(**{**BASE, **other})


def test_the_known_collision_of_joined_text():
    assert key(model="a", messages=[], stop="bseed: 1") != key(
        model="a", messages=[], stop="b", seed=1
    )


@pytest.mark.parametrize(
    "other",
    [
        {"stream": True, "stream_options": {"include_usage": True}},
        {"api_key": "other", "aws_secret_access_key": "s", "vertex_credentials": "c"},
        {"extra_headers": {"Authorization": "x", "X-Api-Key": "y", "anthropic-beta": "1"}},
        {"timeout": 3, "request_timeout": 3, "num_retries": 2, "max_retries": 2},
        {"metadata": {"trace": "1"}, "user": "u", "litellm_call_id": "1"},
        {"acompletion": True, "client": object(), "logger_fn": print},
        {"cache": {"ttl": 3}, "caching": True, "input_cost_per_token": 1.0},
        {"temperature": None},
    ],
    ids=str,
)
def test_what_does_not_decide_the_answer_does_not(other):
    assert key(**BASE) == key(**dict(reversed({**BASE, **other}.items())))


def test_models_as_formats_count_by_their_schema():
    class City(BaseModel):
        name: str

    old = City

    class City(BaseModel):
        name: str
        people: int

    assert key(**BASE, response_format=old) != key(**BASE, response_format=City)
    assert key(**BASE, response_format=old) == key(**BASE, response_format=old)


values = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@given(one=values, two=values, name=st.sampled_from(["num_ctx", "messages", "extra_body", "new"]))
def test_two_values_never_meet(one, two, name):
    first, second = (key(**{**BASE, name: value}) for value in (one, two))
    assert (first == second) == (json.dumps(one, sort_keys=True) == json.dumps(two, sort_keys=True))


def test_each_reason_is_said():
    assert all(IGNORED.values())


def test_bad_values_are_refused():
    with pytest.raises(askonce.InputError):
        LiteLLMCache("nowhere")
    with pytest.raises(askonce.InputError):
        LiteLLMCache("memory://", ttl=0)


def test_what_is_kept_outlives_the_process(ask, llm_server, tmp_path, monkeypatch):
    before = llm_server.requests()
    for _ in range(2):
        made = LiteLLMCache(f"sqlite:///{tmp_path}/cache.db", namespace="n")
        monkeypatch.setattr(litellm, "cache", made)
        litellm.completion(**ask)
        made.close()
    assert llm_server.requests() == before + 1


def test_the_guide_runs(tmp_path, llm_server, monkeypatch):
    for name in ("cache", "client_session", "aclient_session"):
        monkeypatch.setattr(litellm, name, None)
    litellm.in_memory_llm_clients_cache.flush_cache()
    run_section("LiteLLM", tmp_path, llm_server.base_url, monkeypatch)
