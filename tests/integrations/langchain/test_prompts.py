"""What goes into a key, and what does not."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI

from askonce.integrations.langchain.prompts import Unidentified, content, identify

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def key(prompt, llm_string, namespace=""):
    return identify(prompt, llm_string, namespace).key


def llm(model=None, **call):
    constructor = {
        "lc": 1,
        "type": "constructor",
        "id": ["langchain", "chat_models", "openai", "ChatOpenAI"],
        "name": "ChatOpenAI",
        "kwargs": {"model_name": "gpt-4o", **(model or {})},
    }
    return json.dumps(constructor, sort_keys=True) + "---" + str(sorted(call.items()))


def test_a_key_is_readable():
    assert key("hi", llm(), "My tenant").startswith("my-tenant~")
    assert "/chat/gpt-4o/" in key("hi", llm())
    assert "/chat/fake/" in key("hi", str([("_type", "fake"), ("stop", None)]))
    assert key("hi", "no such format").startswith("_/chat/_/")


@pytest.mark.parametrize(
    "ignored",
    [
        {"max_retries": 5},
        {"request_timeout": 1.0},
        {"timeout": 1.0},
        {"streaming": True},
        {"stream_usage": True},
        {"name": "mine"},
        {"verbose": True},
        {"tags": ["a"]},
        {"openai_api_key": {"lc": 1, "type": "secret", "id": ["OPENAI_API_KEY"]}},
    ],
)
def test_what_does_not_decide_the_answer_is_not_in_the_key(ignored):
    assert key("hi", llm(ignored, stop=None)) == key("hi", llm(stop=None))


@pytest.mark.parametrize(
    "field", ["temperature", "seed", "openai_api_base", "default_headers", "n", "unheard_of"]
)
def test_what_may_decide_the_answer_is_in_the_key(field):
    keys = {
        key("hi", llm(stop=None)),
        key("hi", llm({field: 1}, stop=None)),
        key("hi", llm({field: True}, stop=None)),
        key("hi", llm({field: 1.0}, stop=None)),
        key("hi", llm({field: "1"}, stop=None)),
        key("hi", llm({field: None}, stop=None)),
        key("hi", llm(**{field: 1}, stop=None)),
        key("hi", llm(**{field: {"a": 1}}, stop=None)),
    }
    assert len(keys) == 8


def test_the_timeout_of_a_call_is_not_in_the_key():
    assert key("hi", llm(stop=None, timeout=3)) == key("hi", llm(stop=None))


@given(PLAIN, PLAIN)
def test_two_arguments_share_a_key_only_if_they_are_equal(one, other):
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (key("hi", llm(value=one)) == key("hi", llm(value=other))) == same
    assert (key("hi", llm({"value": one})) == key("hi", llm({"value": other}))) == same


@given(st.text(), st.text())
def test_two_texts_share_a_key_only_if_they_are_equal(one, other):
    assert (content(one) == content(other)) == (one == other)


def test_json_that_is_no_dump_of_messages_keeps_every_character():
    dump = dumps([HumanMessage("hi", id="1")])
    variants = [
        dump,
        dump.replace(", ", ","),
        dump + " ",
        dump.replace('{"content"', '{"content": "ho", "content"'),
        "[1, 2]",
        "[1,2]",
        '[{"lc": 1, "no": "message"}]',
        '[{"lc": 1, "type": "constructor", "id": [], "kwargs": 7}]',
        dumps(HumanMessage("hi", id="1")),
    ]
    assert len({content(variant) for variant in variants}) == len(variants)


def test_messages_are_told_apart_by_all_that_is_sent():
    histories = [
        [HumanMessage("hi")],
        [HumanMessage("hi", name="me")],
        [SystemMessage("hi")],
        [AIMessage("hi")],
        [AIMessage("hi", response_metadata={"id": "resp_1"})],
        [AIMessage("hi", response_metadata={"id": "resp_2"})],
        [AIMessage("hi", additional_kwargs={"reasoning": "a"})],
        [AIMessage("hi", additional_kwargs={"cache_hit": False})],
        [AIMessage([{"type": "text", "text": "hi", "id": "1"}])],
        [AIMessage([{"type": "text", "text": "hi", "id": "2"}])],
        [HumanMessage("hi"), AIMessage("hi")],
    ]
    assert len({content(dumps(history)) for history in histories}) == len(histories)


def test_messages_share_a_key_whatever_was_counted_or_marked():
    usage = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
    histories = [
        [AIMessage("hi")],
        [AIMessage("hi", id="1")],
        [AIMessage("hi", usage_metadata=usage)],
        [AIMessage("hi", additional_kwargs={"cache_hit": True})],
    ]
    assert len({content(dumps(history)) for history in histories}) == 1


def test_a_lone_surrogate_has_a_key():
    assert key("\ud800", llm()) != key("\ud801", llm("\ud800" and {"model_name": "\ud800"}))
    dump = dumps([HumanMessage("\ud800")])
    assert content(dump).startswith(b"messages:")


def test_parameters_that_are_no_literals_are_taken_as_they_are():
    odd = ["[('a', nan)]", "[('a', {1, 2})]", "[('a', Decimal('1'))]", "[('a', 1", "[1]", ""]
    constructor = llm()[: -len("[]")]
    keys = {key("hi", start + text) for text in odd for start in ("", constructor)}
    assert len(keys) == 2 * len(odd)


def test_dashes_in_the_parameters_do_not_confuse():
    text = 'a---[("b", 1)]---'
    keys = {
        key("hi", llm({"system": text})),
        key("hi", llm(system=text)),
        key("hi", llm({"system": text}, system=text)),
    }
    assert len(keys) == 3
    assert key("hi", llm({"system": text, "max_retries": 1})) == key("hi", llm({"system": text}))


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        ("<class '__main__.P'>", "<class '__main__.P'>"),
        ("<enum 'Color'>", "<enum 'Color'>"),
        ("<__main__.P object at 0x7f0011aabbcc>", "<__main__.P object at 0x…>"),
        ("<function f.<locals>.<lambda> at 0x7f00>", "<function f.<locals>.<lambda> at 0x…>"),
        ("[{'a': <object object at 0x7f00>}]", "<object object at 0x…>"),
        ("functools.partial(<function f at 0x7f00>, 1)", "<function f at 0x…>"),
    ],
)
def test_unstable_parameters_have_no_key(value, cause):
    for start in ("", llm()[: -len("[]")]):
        refused = identify("hi", f"{start}[('stop', 'it''s'), ('x', {value})]", "")
        assert isinstance(refused, Unidentified)
        assert refused.cause == cause
    model = {"model_kwargs": {"x": {"lc": 1, "type": "not_implemented", "repr": value}}}
    assert identify("hi", llm(model), "").cause == cause


def test_the_users_text_is_not_examined():
    text = "<class 'int'> and <object object at 0x7f00>"
    for llm_string in (llm({"system": text}), llm(tools=[text]), str([("tools", text)])):
        assert key(text, llm_string)
    assert key("hi", f"[('stop', {text!r}), ('x', nan)]")


def test_a_key_holds_no_secret_and_no_prompt():
    model = ChatOpenAI(model="gpt-4o", api_key="sk-secret")
    made = key("my private prompt", model._get_llm_string(stop=None))
    assert "secret" not in made
    assert "private" not in made


def test_the_mark_of_a_hit_is_not_sent_to_openai():
    hit = AIMessage("hi", additional_kwargs={"cache_hit": True}, id="lc_run--1")
    for model in (
        ChatOpenAI(model="gpt-4o", api_key="x"),
        ChatOpenAI(model="gpt-4o", api_key="x", use_responses_api=True),
    ):
        sent = model._get_request_payload([HumanMessage("a"), hit, HumanMessage("b")])
        assert "cache_hit" not in json.dumps(sent)
        assert "lc_run" not in json.dumps(sent)


def test_a_prompt_has_one_content_whether_or_not_it_is_known_to_be_a_dump():
    for history in ([HumanMessage("hi", id="1")], [AIMessage("ho", name="x"), HumanMessage("é")]):
        assert content(dumps(history)) == content(dumps(history), is_chat=True)
    assert content("text", is_chat=True) == content("text")
