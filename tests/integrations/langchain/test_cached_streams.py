"""Streams of a wrapped model: kept whole, replayed in their chunks, one entry with whole answers."""

import asyncio
import gc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.callbacks import BaseCallbackHandler, UsageMetadataCallbackHandler
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk
from langgraph.graph import END, START, MessagesState, StateGraph
from pydantic import BaseModel

from askonce.integrations.langchain import cached
from askonce.integrations.langchain.cached_answers import Recording, join, stream_of, whole_of
from askonce.stores.memory import MemoryStore
from tests.integrations.langchain.cached_models import AsyncStreamingChat, StreamingChat

TOOL = {"type": "function", "function": {"name": "add", "description": "", "parameters": {}}}
BOTH = pytest.mark.parametrize("kind", [StreamingChat, AsyncStreamingChat])


def shape(chunk):
    """Give what a hit has in common with the miss."""
    return (chunk.content, chunk.tool_call_chunks, chunk.response_metadata, chunk.chunk_position, chunk.usage_metadata is None)


@pytest.mark.parametrize("tools", [[], [TOOL]])
def test_a_stream_is_replayed_in_its_chunks(tools):
    model = cached(StreamingChat(), store=MemoryStore())
    first, second = (list(model.bind(tools=tools).stream("hi")) for _ in range(2))
    assert model.verbs == ["stream"]
    assert [shape(chunk) for chunk in first] == [shape(chunk) for chunk in second]
    assert len({chunk.id for chunk in second}) == 1
    assert first[0].id != second[0].id
    assert [bool(chunk.additional_kwargs) for chunk in second] == [True] + [False] * (len(second) - 1)
    total = sum(second[1:], second[0])
    assert total.usage_metadata["total_tokens"] == 0
    assert [call["args"] for call in total.tool_calls] == [{"value": 1}] * len(tools)


@BOTH
async def test_streams_of_both_colours_share_entries(kind):
    model = cached(kind(), store=MemoryStore())
    chunks = [chunk async for chunk in model.astream("hi")]
    again = list(model.stream("hi"))
    once_more = [chunk async for chunk in model.astream("hi")]
    assert [shape(c) for c in chunks] == [shape(c) for c in again] == [shape(c) for c in once_more]
    assert model.verbs == ["stream"]


@pytest.mark.parametrize("tools", [[], [TOOL]])
def test_a_stream_answers_invoke(tools):
    model = cached(StreamingChat(), store=MemoryStore())
    chunks = list(model.bind(tools=tools).stream("hi"))
    total = sum(chunks[1:], chunks[0])
    answer = model.bind(tools=tools).invoke("hi")
    assert type(answer) is AIMessage
    assert (answer.content, answer.tool_calls) == (total.content, total.tool_calls)
    assert answer.response_metadata == total.response_metadata
    assert model.verbs == ["stream"]


@pytest.mark.parametrize("tools", [[], [TOOL]])
def test_invoke_answers_a_stream(tools):
    model = cached(StreamingChat(), store=MemoryStore())
    answer = model.bind(tools=tools).invoke("hi")
    (chunk,) = model.bind(tools=tools).stream("hi")
    assert (chunk.content, chunk.tool_calls) == (answer.content, answer.tool_calls)
    assert chunk.response_metadata == answer.response_metadata
    assert chunk.additional_kwargs == {"cache_hit": True}
    assert model.verbs == ["generate"]


def test_a_stream_of_several_answers_is_an_entry_of_its_own():
    model = cached(StreamingChat(n=2), store=MemoryStore())
    list(model.stream("hi"))
    results = [model.generate([[HumanMessage("hi")]]) for _ in range(2)]
    assert [len(result.generations[0]) for result in results] == [2, 2]
    list(model.stream("hi"))
    assert model.verbs == ["stream", "generate"]


class Tokens(BaseCallbackHandler):
    def __init__(self):
        self.tokens = []

    def on_llm_new_token(self, token, **kwargs):
        self.tokens.append(token)


def test_callbacks_see_the_tokens_of_a_hit():
    model = cached(StreamingChat(), store=MemoryStore())
    handlers = [Tokens(), Tokens()]
    for handler in handlers:
        list(model.stream("hi", {"callbacks": [handler]}))
    assert handlers[0].tokens == handlers[1].tokens
    assert "".join(handlers[1].tokens) == "answer 1 of streaming"


def test_a_model_set_to_stream_shows_its_tokens_in_invoke():
    model = cached(StreamingChat(streaming=True), store=MemoryStore())
    handlers = [Tokens(), Tokens()]
    answers = [model.invoke("hi", {"callbacks": [handler]}) for handler in handlers]
    assert handlers[0].tokens == handlers[1].tokens
    assert answers[0].content == answers[1].content
    assert model.verbs == ["stream"]


def test_no_tokens_are_counted_twice():
    model = cached(StreamingChat(), store=MemoryStore())
    counter = UsageMetadataCallbackHandler()
    for _ in range(3):
        list(model.stream("hi", {"callbacks": [counter]}))
        model.invoke("hi", {"callbacks": [counter]})
    assert counter.usage_metadata["streaming"]["total_tokens"] == 15


@BOTH
async def test_events_v2_show_the_chunks_of_a_hit(kind):
    model = cached(kind(), store=MemoryStore())

    async def events():
        return [
            (event["event"], shape(event["data"]["chunk"]) if "chunk" in event["data"] else None)
            async for event in model.astream_events("hi", version="v2")
        ]

    first, second = [await events() for _ in range(2)]
    assert first == second
    assert [name for name, _ in second].count("on_chat_model_stream") == 6


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
def test_events_v3_show_the_chunks_of_a_hit():
    model = cached(StreamingChat(), store=MemoryStore())
    texts = [list(model.stream_events("hi", version="v3").text) for _ in range(2)]
    assert texts[0] == texts[1]
    assert "".join(texts[1]) == "answer 1 of streaming"
    assert model.verbs == ["stream"]


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
async def test_events_v3_show_the_chunks_of_a_hit_to_tasks():
    model = cached(AsyncStreamingChat(), store=MemoryStore())
    texts = []
    for _ in range(2):
        stream = await model.astream_events("hi", version="v3")
        texts.append([part async for part in stream.text])
    assert texts[0] == texts[1]
    assert len(texts[1]) == 4


@BOTH
@pytest.mark.parametrize("awaited", [True, False])
async def test_langgraph_streams_the_messages_of_a_hit(kind, awaited):
    model = cached(kind(), store=MemoryStore())

    async def aask(state):
        return {"messages": [await model.ainvoke(state["messages"])]}

    def ask(state):
        return {"messages": [model.invoke(state["messages"])]}

    graph = StateGraph(MessagesState).add_node("ask", aask if awaited else ask)
    graph = graph.add_edge(START, "ask").add_edge("ask", END).compile()

    async def tokens():
        given = {"messages": [HumanMessage("hi")]}
        if awaited:
            return [part[0].content async for part in graph.astream(given, stream_mode="messages")]
        return [part[0].content for part in graph.stream(given, stream_mode="messages")]

    first, second = [await tokens() for _ in range(2)]
    assert first == second
    assert "".join(second) == "answer 1 of streaming"
    assert len(model.calls) == 1


def test_a_broken_stream_is_not_kept():
    store = MemoryStore()
    model = cached(StreamingChat(break_after=3), store=store)
    for _ in range(2):
        with pytest.raises(ConnectionResetError):
            list(model.stream("hi"))
    assert not list(store.keys())
    model.break_after = None
    assert len(list(model.stream("hi"))) == 6


def test_a_stream_left_early_is_not_kept():
    store = MemoryStore()
    model = cached(StreamingChat(), store=store)
    stream = model.stream("hi")
    next(stream)
    stream.close()
    assert not list(store.keys())
    stream = model.stream("hi")
    next(stream)
    del stream
    gc.collect()
    assert model.invoke("hi").content == "answer 3 of streaming"


@BOTH
async def test_a_cancelled_stream_is_not_kept(kind):
    store = MemoryStore()
    model = cached(kind(), store=store)
    begun = asyncio.Event()

    async def read():
        async for _ in model.astream("hi"):
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(read())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not list(store.keys())
    assert (await model.ainvoke("hi")).content == "answer 2 of streaming"


@BOTH
async def test_an_async_stream_left_early_is_not_kept(kind):
    store = MemoryStore()
    model = cached(kind(), store=store)
    stream = model.astream("hi")
    await anext(stream)
    await stream.aclose()
    assert not list(store.keys())


def test_who_reads_may_change_what_it_reads():
    model = cached(StreamingChat(), store=MemoryStore())
    for chunk in model.stream("hi"):
        chunk.response_metadata["spoiled"] = True
        chunk.content = "spoiled"
    for chunk in model.stream("hi"):
        assert "spoiled" not in (chunk.content, *chunk.response_metadata)
        chunk.response_metadata["spoiled"] = True
    assert all("spoiled" not in chunk.response_metadata for chunk in model.stream("hi"))


def test_an_answer_of_an_unknown_class_passes_through_and_is_told():
    class Special(AIMessageChunk):
        pass

    class Odd(StreamingChat):
        def chunks(self, number, tools):
            yield ChatGenerationChunk(message=Special(f"{number}"))

    events = []
    model = cached(Odd(), store=MemoryStore(), observe=events.append)
    assert [[c.content for c in model.stream("hi")] for _ in range(2)] == [["1", ""], ["2", ""]]
    assert "Special" in next(event.reason for event in events if event.kind == "refused")


def test_an_answer_that_is_no_json_passes_through_and_is_told():
    class Odd(StreamingChat):
        def chunks(self, number, tools):
            yield ChatGenerationChunk(message=AIMessageChunk("a"), generation_info={"raw": b"x"})
            yield ChatGenerationChunk(message=AIMessageChunk("b"), generation_info={"pair": (1, 2)})

    events = []
    model = cached(Odd(), store=MemoryStore(), observe=events.append)
    assert [c.content for c in model.stream("hi")][:2] == ["a", "b"]
    assert "not plain JSON" in next(event.reason for event in events if event.kind == "refused")


def test_structured_output_of_a_stream_comes_back_as_a_dict():
    class Point(BaseModel):
        x: int

    class Parsing(StreamingChat):
        def chunks(self, number, tools):
            yield ChatGenerationChunk(message=AIMessageChunk('{"x": 1}'))
            message = AIMessageChunk("", additional_kwargs={"parsed": Point(x=1)})
            yield ChatGenerationChunk(message=message)

    model = cached(Parsing(), store=MemoryStore())
    list(model.stream("hi"))
    assert model.invoke("hi").additional_kwargs["parsed"] == {"x": 1}


def test_many_alike_chunks_take_little_room():
    store = MemoryStore()
    model = cached(FakeListChatModel(responses=["word " * 400]), store=store)
    list(model.stream("hi"))
    (blob,) = store.read(list(store.keys()))
    assert len(blob) < 2000 * 8


WORDS = st.text(max_size=8)
CHUNKS = st.builds(
    lambda content, calls, info, metadata, usage: ChatGenerationChunk(
        message=AIMessageChunk(
            content,
            tool_call_chunks=[tool_call_chunk(name=None, args=a, id=None, index=0) for a in calls],
            response_metadata=metadata,
            usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3} if usage else None,
        ),
        generation_info=info,
    ),
    st.one_of(WORDS, st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": WORDS, "index": st.just(0)}), max_size=2)),
    st.lists(WORDS, max_size=2),
    st.none() | st.dictionaries(WORDS, WORDS, max_size=2),
    st.dictionaries(WORDS, WORDS, max_size=2),
    st.booleans(),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(CHUNKS, min_size=1, max_size=6))
def test_every_stream_comes_back_chunk_by_chunk(chunks):
    recording = Recording()
    for chunk in chunks:
        recording.take(chunk)
    payload = recording.payload()
    back = stream_of(payload)
    assert [c.generation_info for c in back] == [c.generation_info for c in chunks]
    assert [shape(c.message) for c in back] == [shape(c.message) for c in chunks]
    assert [c.text for c in back] == [c.text for c in chunks]
    joined = join(chunks)
    (whole,) = whole_of(payload)
    assert (whole.text, whole.message.content, whole.generation_info) == (joined.text, joined.message.content, joined.generation_info)
    assert whole.message.tool_calls == joined.message.tool_calls
    assert recording.tokens().get("total_tokens", 0) == 3 * sum(c.message.usage_metadata is not None for c in chunks)
