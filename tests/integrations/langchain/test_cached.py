"""A wrapped model is the model for LangChain and LangGraph, and asks once."""

import copy
import gc
import operator
from typing import Annotated, TypedDict

import pytest
from langchain_core.callbacks import BaseCallbackHandler, UsageMetadataCallbackHandler
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import BaseChatModel, FakeListChatModel
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.load import dumpd, dumps
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import ConfigurableField
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, MessagesState, StateGraph
from pydantic import BaseModel

from askonce.errors import InputError, InputTypeError, StoreError
from askonce.integrations.langchain import InMemoryByteStore, InMemoryCache, StoreCache, cached
from askonce.stores.memory import MemoryStore
from tests.integrations.langchain.cached_models import AsyncStreamingChat, StreamingChat
from tests.integrations.langchain.chat_models import CountingChat, CountingLLM, SerializableChat


@pytest.fixture(params=["memory", "sqlite", "file", "lmdb", "byte store"])
def store(request, tmp_path):
    return {
        "memory": MemoryStore,
        "sqlite": lambda: f"sqlite:///{tmp_path}/answers.db",
        "file": lambda: f"file:///{tmp_path}/files",
        "lmdb": lambda: f"lmdb:///{tmp_path}/lmdb",
        "byte store": InMemoryByteStore,
    }[request.param]()


@pytest.mark.parametrize("kind", [CountingChat, SerializableChat, StreamingChat])
def test_a_model_is_asked_once(store, kind):
    model = cached(kind(), store=store)
    first, second = model.invoke("hi"), model.invoke("hi")
    assert first.content == second.content
    assert first.response_metadata == second.response_metadata
    assert len(model.calls) == 1
    model.invoke("ho")
    assert len(model.calls) == 2


@pytest.mark.parametrize("kind", [StreamingChat, AsyncStreamingChat])
async def test_both_colours_share_entries(kind):
    model = cached(kind(), store=MemoryStore())
    answers = [model.invoke("a"), await model.ainvoke("a")]
    answers += [await model.ainvoke("b"), model.invoke("b")]
    assert [answer.content[:8] for answer in answers] == ["answer 1", "answer 1", "answer 2", "answer 2"]


def test_a_hit_is_new_marked_and_costs_no_tokens():
    model = cached(StreamingChat(), store=MemoryStore())
    counter = UsageMetadataCallbackHandler()
    answers = [model.invoke("hi", {"callbacks": [counter]}) for _ in range(3)]
    assert counter.usage_metadata["streaming"]["total_tokens"] == 15
    assert len({answer.id for answer in answers}) == 3
    assert [answer.additional_kwargs for answer in answers] == [{}, {"cache_hit": True}, {"cache_hit": True}]
    answers[1].response_metadata["spoiled"] = True
    assert "spoiled" not in model.invoke("hi").response_metadata


def test_another_store_object_of_the_same_file_hits(tmp_path):
    url = f"sqlite:///{tmp_path}/answers.db"
    first = cached(StreamingChat(), store=url)
    first.invoke("hi")
    del first
    gc.collect()
    second = cached(StreamingChat(), store=url)
    assert second.invoke("hi").additional_kwargs == {"cache_hit": True}
    assert not second.calls


def test_the_original_model_is_left_alone():
    original = StreamingChat()
    model = cached(original, store=MemoryStore())
    model.temperature = 1.0
    assert original.temperature is None
    assert original.cache is None
    original.invoke("hi")
    original.invoke("hi")
    assert len(original.calls) == 2


def test_it_is_one_of_the_models_own_class():
    original = SerializableChat(tags=["mine"])
    model = cached(original, store=MemoryStore())
    assert isinstance(model, SerializableChat)
    assert type(model).__name__ == "SerializableChat"
    assert model.model_name == "counting"
    assert model._llm_type == "counting"
    assert model.tags == ["mine"]
    assert model.get_name() == original.get_name()
    assert model._get_ls_params() == original._get_ls_params()
    assert dumpd(model) == dumpd(original)
    assert repr(model).startswith("SerializableChat(")
    assert model.lc_secrets == original.lc_secrets
    assert "askonce" not in dumps(model)


def test_openais_model_keeps_what_it_knows_of_itself():
    count = lambda text: list(range(len(text.split())))
    model = ChatOpenAI(api_key="x", model="gpt-4o", custom_get_token_ids=count)
    model = cached(model, store=MemoryStore())
    assert model.profile == ChatOpenAI(api_key="x", model="gpt-4o").profile
    assert model.get_num_tokens("a few words") == 3
    assert model.bind_tools([]).bound is model


def test_copies_go_on_using_the_store():
    model = cached(StreamingChat(), store=MemoryStore())
    model.invoke("hi")
    copies = [model.model_copy(), copy.copy(model), model.with_retry(), model.with_config(tags=["x"])]
    copies += [model.bind(), model.with_fallbacks([StreamingChat()]), cached(model, store=model._keeper().store)]
    for other in copies:
        assert other.invoke("hi").content == "answer 1 of streaming"
    assert len(model.calls) == 1
    deep = copy.deepcopy(cached(CountingChat(), store=MemoryStore()))
    deep.invoke("hi")
    deep.invoke("hi")
    assert len(deep.calls) == 1


def test_configurable_fields_are_keyed_and_cached():
    model = cached(StreamingChat(), store=MemoryStore())
    configurable = model.configurable_fields(model_name=ConfigurableField(id="name"))
    assert configurable.invoke("hi").content == "answer 1 of streaming"
    other = {"configurable": {"name": "other"}}
    assert configurable.invoke("hi", other).content == "answer 2 of other"
    assert configurable.invoke("hi", other).content == "answer 2 of other"
    assert configurable.invoke("hi").content == "answer 1 of streaming"


def test_wrapping_again_replaces_the_terms():
    stores = MemoryStore(), MemoryStore()
    inner = cached(StreamingChat(), store=stores[0])
    outer = cached(inner, store=stores[1], namespace="mine")
    outer.invoke("hi")
    assert not list(stores[0].keys())
    assert [key.split("/")[0] for key in stores[1].keys()] == ["mine"]


def test_a_chain_asks_once():
    model = cached(StreamingChat(), store=MemoryStore())
    chain = ChatPromptTemplate.from_messages([("human", "{question}")]) | model
    assert [chain.invoke({"question": "hi"}).content for _ in range(2)] == ["answer 1 of streaming"] * 2


def test_langgraph_appends_what_comes_from_the_cache():
    model = cached(StreamingChat(), store=MemoryStore())

    class State(MessagesState):
        seen: Annotated[list, operator.add]

    def ask(state):
        answer = model.invoke("the same question")
        return {"messages": [answer], "seen": [answer.id]}

    graph = StateGraph(State).add_node("a", ask).add_node("b", ask)
    graph = graph.add_edge(START, "a").add_edge("a", "b").add_edge("b", END).compile()
    out = graph.invoke({"messages": [HumanMessage("hi")]})
    assert len(out["messages"]) == 3
    assert len(model.calls) == 1


def test_namespaces_and_samples_are_apart():
    store = MemoryStore()
    answers = [
        cached(model, store=store, **terms).invoke("hi").content
        for model in [StreamingChat()]
        for terms in ({}, {"namespace": "a"}, {"sample": 1}, {"sample": 2}, {}, {"sample": 2})
    ]
    assert answers == [f"answer {n} of streaming" for n in (1, 2, 3, 4, 1, 4)]


def test_an_answer_expires(monkeypatch):
    from askonce.core import flow

    model = cached(StreamingChat(), store=MemoryStore(), ttl=60)
    model.invoke("hi")
    clock = flow.now
    monkeypatch.setattr(flow, "now", lambda: clock() + 59)
    model.invoke("hi")
    assert len(model.calls) == 1
    monkeypatch.setattr(flow, "now", lambda: clock() + 61)
    model.invoke("hi")
    assert len(model.calls) == 2


def test_keep_refuses_bad_answers():
    events = []
    seen = []

    def keep(answer):
        seen.append(answer)
        return "2" in answer.text

    model = cached(StreamingChat(), store=MemoryStore(), keep=keep, observe=events.append)
    assert [model.invoke("hi").content[:8] for _ in range(3)] == ["answer 1", "answer 2", "answer 2"]
    assert all(isinstance(answer, AIMessage) for answer in seen)
    assert [event.kind for event in events] == ["miss", "refused", "miss", "stored", "hit"]
    assert (events[1].reason, events[1].code) == ("keep() refused the answer", "keep_hook")


@pytest.mark.parametrize(
    ("reason", "code"),
    [("length", "length"), ("content_filter", "content_filter"), ("MAX_TOKENS", "length")],
)
def test_answers_cut_short_are_not_kept_unless_asked_for(reason, code):
    events = []
    store = MemoryStore()
    model = cached(StreamingChat(finish_reason=reason), store=store, observe=events.append)
    model.invoke("hi")
    list(model.stream("ho"))
    assert not list(store.keys())
    assert [event.code for event in events if event.kind == "refused"] == [code] * 2
    cached(model, store=store, keep=lambda answer: True).invoke("hi")
    assert len(list(store.keys())) == 1


def test_a_keep_that_fails_fails_the_call_and_blocks_nobody():
    def keep(answer):
        raise ZeroDivisionError

    model = cached(StreamingChat(), store=MemoryStore(), keep=keep)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            model.invoke("hi")
    assert not model._keeper().store.flights.under_way(["x"])


def test_a_store_that_fails_breaks_no_call():
    class Broken(MemoryStore):
        def read(self, keys):
            raise StoreError("gone")

        write = read

        def write(self, entries, *, expires=0):
            raise StoreError("gone")

    events = []
    model = cached(StreamingChat(), store=Broken(), observe=events.append)
    assert model.invoke("hi").content == "answer 1 of streaming"
    assert "".join(chunk.text for chunk in model.stream("hi")) == "answer 2 of streaming"
    assert {event.kind for event in events} == {"miss", "store_failed"}


def test_a_damaged_entry_is_asked_for_again():
    store = MemoryStore()
    model = cached(StreamingChat(), store=store)
    list(model.stream("hi"))
    (key,) = store.keys()
    (blob,) = store.read([key])
    for spoiled in (b"", blob[:-8], blob[:60] + b"\0" + blob[61:]):
        store.write({key: spoiled})
        before = len(model.calls)
        assert model.invoke("hi").content.startswith("answer")
        assert len(model.calls) == before + 1


@pytest.mark.parametrize("payload", [b"[]", b"{}", b'{"generations":[]}', b'{"generations":[{"type":"Evil"}],"chunks":[["x",{}]]}', b'{"chunks":[]}', b'{"chunks":["x"]}', b"\xff"])
def test_an_entry_that_is_none_of_ours_is_asked_for_again(payload):
    store = MemoryStore()
    model = cached(StreamingChat(), store=store)
    question = model._question([HumanMessage("hi")], None, {})
    store.write({question.key: question.pack(payload, {}, now=0, ttl=None)[0]})
    assert "".join(chunk.text for chunk in model.stream("hi")) == "answer 1 of streaming"
    store.write({question.key: question.pack(payload, {}, now=0, ttl=None)[0]})
    assert model.invoke("hi").content == "answer 2 of streaming"


def test_a_failing_model_is_asked_again_and_its_error_is_its_own():
    model = cached(CountingChat(error="no"), store=MemoryStore())
    for _ in range(2):
        with pytest.raises(PermissionError, match="no"):
            model.invoke("hi")
    assert len(model.calls) == 2


def test_the_global_cache_is_not_used_besides():
    cache = InMemoryCache()
    set_llm_cache(cache)
    try:
        cached(StreamingChat(cache=True), store=MemoryStore()).invoke("hi")
    finally:
        set_llm_cache(None)
    assert not list(cache.store.keys())


def test_clearing_a_cache_of_langchains_forgets_these_answers_too():
    store = MemoryStore()
    cached(StreamingChat(), store=store).invoke("hi")
    StoreCache(store).clear()
    assert not list(store.keys())


def test_langchains_own_fakes_hit():
    fake = cached(FakeListChatModel(responses=["a", "b"]), store=MemoryStore())
    assert [fake.invoke("hi").content for _ in range(3)] == ["a"] * 3
    generic = cached(GenericFakeChatModel(messages=iter(["a", "b"])), store=MemoryStore())
    assert [generic.invoke("hi").content for _ in range(3)] == ["a"] * 3


def test_callbacks_fire_on_a_hit():
    class Handler(BaseCallbackHandler):
        def __init__(self):
            self.seen = []

        def on_chat_model_start(self, serialized, messages, **kwargs):
            self.seen.append("chat start")

        def on_llm_start(self, serialized, prompts, **kwargs):
            self.seen.append("start")

        def on_llm_end(self, response, **kwargs):
            self.seen.append(response.generations[0][0].text)

    handler = Handler()
    chat = cached(StreamingChat(), store=MemoryStore())
    llm = cached(CountingLLM(), store=MemoryStore())
    for model in (chat, llm):
        model.invoke("hi")
        model.invoke("hi", {"callbacks": [handler]})
    assert handler.seen == ["chat start", "answer 1 of streaming", "start", "hi: 1"]


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"ttl": 0}, "ttl is 0"),
        ({"sample": -1}, "sample is -1"),
        ({"ignore": "client"}, "ignore is one string"),
        ({"store": "nowhere"}, "not a store URL"),
    ],
)
def test_values_that_cannot_be_used_are_refused(terms, message):
    with pytest.raises(InputError, match=message):
        cached(StreamingChat(), **{"store": MemoryStore(), **terms})


def test_only_models_can_be_wrapped():
    with pytest.raises(InputTypeError, match="bind tools"):
        cached(StreamingChat().bind(x=1), store=MemoryStore())
