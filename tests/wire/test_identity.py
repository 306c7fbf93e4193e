import copy
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askonce import wire
from askonce.core import keys
from askonce.wire import openai_embeddings
from tests.wire.answers import JSON
from tests.wire.transcripts import FOLDER, WIRES

PATHS = {
    "openai_chat": "/v1/chat/completions",
    "openai_completions": "/v1/completions",
    "openai_responses": "/v1/responses",
    "anthropic_messages": "/v1/messages",
    "gemini": "/v1beta/models/gemini-2.5-flash:generateContent",
}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
REQUESTS = {
    "openai_chat": {
        "model": "gpt-4o",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]},
        ],
        "tools": [TOOL],
        "temperature": 0.5,
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}},
        "num_ctx": 2048,
    },
    "openai_completions": {"model": "m", "prompt": "Once", "max_tokens": 5},
    "openai_responses": {
        "model": "m",
        "input": [{"role": "user", "content": "x"}],
        "tools": [TOOL],
    },
    "anthropic_messages": {
        "model": "claude",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}],
        "system": "s",
        "thinking": {"type": "enabled", "budget_tokens": 1024},
    },
    "gemini": {
        "contents": [{"role": "user", "parts": [{"text": "x"}]}],
        "generationConfig": {"temperature": 0, "seed": 3},
    },
}
FIELDS = sorted({name for answers in WIRES.values() for name in answers.IGNORED})


def key(folder, body, path=None):
    """Give the digest of a body as it arrives, in bytes."""
    read = wire.parse_body(body if isinstance(body, bytes) else json.dumps(body).encode())
    return keys.digest(WIRES[folder].identity(path or PATHS[folder], read))


def changed(value, rng):
    """Change exactly one thing somewhere in a value."""
    if isinstance(value, dict) and (value or rng.random() < 0.5):
        value = dict(value)
        if not value or rng.random() < 0.3:
            name = f"new_{rng.randrange(10**9)}"
            return value | {name: rng.choice([None, False, 0, "", [], {}, "x", 1.5])}
        name = rng.choice(sorted(value))
        if rng.random() < 0.2:
            del value[name]
            return value
        return value | {name: changed(value[name], rng)}
    if isinstance(value, list) and value:
        place = rng.randrange(len(value))
        kind = rng.random()
        if kind < 0.2:
            return value[:place] + value[place + 1 :]
        if kind < 0.4:
            return [*value, value[place]]
        return [*value[:place], changed(value[place], rng), *value[place + 1 :]]
    return rng.choice([f"{value}{rng.randrange(10**9)}", rng.random(), [value], {"was": value}])


def shuffled(value, rng):
    """Give the same value with its names in another order."""
    if isinstance(value, dict):
        names = list(value)
        rng.shuffle(names)
        return {name: shuffled(value[name], rng) for name in names}
    return [shuffled(element, rng) for element in value] if isinstance(value, list) else value


@pytest.mark.parametrize("folder", REQUESTS)
def test_no_two_of_many_requests_meet(folder):
    rng = random.Random(7)
    found = {}
    for _ in range(2500):
        body = changed(REQUESTS[folder], rng)
        if rng.random() < 0.5:
            body = changed(body, rng)
        canonical = json.dumps(body, sort_keys=True)
        assert found.setdefault(key(folder, body), canonical) == canonical
    assert len(found) == len(set(found.values()))


@pytest.mark.parametrize("folder", REQUESTS)
def test_presentation_order_and_space_do_not_matter(folder):
    rng = random.Random(7)
    ignored = [name for name in WIRES[folder].IGNORED if name != "store"]
    for _ in range(300):
        body = changed(REQUESTS[folder], rng)
        other = shuffled(body, rng)
        for name in rng.sample(ignored, rng.randrange(len(ignored) + 1)):
            other[name] = rng.choice([None, True, False, "x", {"a": [1]}])
        written = json.dumps(
            other, indent=rng.choice([None, 0, 3]), ensure_ascii=rng.choice([True, False])
        )
        assert key(folder, written.encode()) == key(folder, body)


@given(st.dictionaries(st.text(), JSON), st.dictionaries(st.text(), JSON))
@pytest.mark.parametrize("folder", REQUESTS)
def test_identities_are_equal_only_for_what_is_equal(folder, one, two):
    def deciding(body):
        kept = {name: body[name] for name in body if name not in WIRES[folder].IGNORED}
        return json.dumps(kept, sort_keys=True)

    same = key(folder, one) == key(folder, two)
    assert same == (deciding(one) == deciding(two))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ({"a": 1}, {"a": True}),
        ({"a": 1}, {"a": 1.0}),
        ({"a": 0}, {"a": None}),
        ({"a": None}, {}),
        ({"a": "1"}, {"a": 1}),
        ({"a": "x", "b": "y"}, {"a": 'x","b":"y'}),
        ({"a": ["x", "y"]}, {"a": ["xy"]}),
        ({"a": [["x"], "y"]}, {"a": [["x", "y"]]}),
        ({"a": {"b": {}}}, {"a": {}, "b": {}}),
        ({"a": "é"}, {"a": "e\u0301"}),
        ({"a": 2**53}, {"a": 2**53 + 1}),
        ({"model": "a", "user_": "bstream: True"}, {"model": "a", "user_": "b", "stream_": True}),
    ],
    ids=range(12),
)
@pytest.mark.parametrize("folder", REQUESTS)
def test_look_alikes_differ(folder, one, two):
    assert key(folder, one) != key(folder, two)


def test_paths_are_part_of_the_identity():
    azure = "/openai/deployments/{}/chat/completions"
    assert key("openai_chat", {}, azure.format("a")) != key("openai_chat", {}, azure.format("b"))
    assert key("openai_chat", {}, "/a/chat/completions") != key("openai_chat", {})
    assert key("openai_chat", {}, PATHS["openai_chat"] + "?x=1") == key("openai_chat", {})
    gemini = "/v1beta/models/{}:{}"
    plain = key("gemini", {}, gemini.format("a", "generateContent"))
    assert key("gemini", {}, gemini.format("a", "streamGenerateContent?alt=sse")) == plain
    assert key("gemini", {}, gemini.format("b", "generateContent")) != plain


def test_formats_differ():
    assert len({key(folder, {}, "/x") for folder in WIRES}) == len(WIRES)


def test_absent_and_false_store_differ_only_where_absent_means_true():
    assert key("openai_chat", {"store": False}) == key("openai_chat", {})
    assert key("openai_responses", {"store": False}) != key("openai_responses", {})


@pytest.mark.parametrize("folder", WIRES)
def test_everything_ignored_has_its_reason(folder):
    assert all(len(reason) > 10 for reason in WIRES[folder].IGNORED.values())


REFUSED = {
    "openai_chat": [
        {"store": True},
        {"web_search_options": {}},
        {"stream": "yes"},
        {"stream": 1},
        {"tools": [TOOL, {"type": "web_search_preview_2025_03_11"}]},
    ],
    "openai_completions": [{"store": True}, {"stream": []}],
    "openai_responses": [
        {"store": True},
        {"background": True},
        {"previous_response_id": "resp_1"},
        {"conversation": "conv_1"},
        {"conversation": {"id": "conv_1"}},
        {"prompt": {"id": "pmpt_1"}},
        {"input": [{"type": "item_reference", "id": "msg_1"}]},
        {"input": [{"id": "msg_1"}]},
        {"stream": "true"},
        *(
            {"tools": [{"type": kind}]}
            for kind in ("file_search", "web_search", "code_interpreter", "mcp")
        ),
    ],
    "anthropic_messages": [
        {"container": "c"},
        {"mcp_servers": [{"url": "https://x"}]},
        {"thread": {"type": "create"}},
        {"stream": 0},
        *(
            {"tools": [{"type": kind}]}
            for kind in ("web_search_20250305", "web_fetch_20260209", "code_execution_20250825")
        ),
    ],
    "gemini": [
        {"store": True},
        {"continuationToken": "x"},
        *(
            {"tools": [{"functionDeclarations": []}, {name: {}}]}
            for name in ("googleSearch", "google_search", "urlContext", "file_search", "retrieval")
        ),
    ],
}


@pytest.mark.parametrize(
    ("folder", "body"), [(folder, body) for folder in REFUSED for body in REFUSED[folder]], ids=str
)
def test_requests_for_more_than_an_answer_are_refused(folder, body):
    reason = WIRES[folder].refusal({**REQUESTS[folder], **body})
    assert reason is not None
    assert "`" in reason


ALLOWED = {
    "openai_chat": [{"store": False}, {"store": None}, {"stream": True}, {"stream": None}],
    "openai_completions": [{"stream": False}],
    "openai_responses": [
        {"store": False},
        {"previous_response_id": None},
        {"background": False},
        {"prompt": {"id": "pmpt_1", "version": "2"}},
        {"input": "text"},
        {"input": [{"role": "user", "content": "x", "id": "msg_1"}]},
        {"tools": [{"type": "custom", "name": "mcp"}, {"type": "image_generation"}]},
    ],
    "anthropic_messages": [
        {"mcp_servers": []},
        {"container": None},
        {"tools": [{"name": "web_search", "input_schema": {}}, {"type": "bash_20250124"}]},
    ],
    "gemini": [{"store": False}, {"tools": [{"codeExecution": {}}]}, {"tools": None}],
}


@pytest.mark.parametrize(
    ("folder", "body"), [(folder, body) for folder in ALLOWED for body in ALLOWED[folder]], ids=str
)
def test_other_requests_are_not(folder, body):
    assert WIRES[folder].refusal({**REQUESTS[folder], **body}) is None


@given(st.dictionaries(st.sampled_from([*FIELDS, "tools", "input", "prompt", "model"]), JSON))
def test_no_body_breaks_a_reader(body):
    before = copy.deepcopy(body)
    for folder, answers in WIRES.items():
        path = PATHS[folder]
        answers.refusal(body)
        answers.wants_usage(body)
        answers.wants_stream(path, body)
        assert isinstance(answers.model(path, body), str)
        keys.digest(answers.identity(path, body))
        answers.shortfall(body)
        answers.usage(body)
    if openai_embeddings.refusal(body) is None:
        openai_embeddings.inputs(body)
    assert body == before


POST = [
    ("/v1/chat/completions", "openai.chat"),
    ("/chat/completions", "openai.chat"),
    ("/any/prefix/v1/chat/completions?api-version=2024", "openai.chat"),
    ("/openai/deployments/gpt/chat/completions?api-version=1", "openai.chat"),
    ("/openai/deployments/gpt/completions", "openai.completions"),
    ("/v1/completions", "openai.completions"),
    ("/completions", "openai.completions"),
    ("/v1/responses", "openai.responses"),
    ("/openai/v1/responses", "openai.responses"),
    ("/v1/messages?beta=true", "anthropic.messages"),
    ("/anthropic/v1/messages", "anthropic.messages"),
    ("/v1beta/models/gemini-2.5-flash:generateContent", "gemini"),
    ("/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse", "gemini"),
    ("/v1/projects/p/locations/l/publishers/google/models/g:generateContent", "gemini"),
    ("/v1beta/models/gemini-2.5-flash:streamGenerateContent", None),
    ("/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=json", None),
    ("/v1beta/models/gemini-2.5-flash:countTokens", None),
    ("/v1beta/models/gemini-2.5-flash:GenerateContent", None),
    ("/v1/messages/count_tokens", None),
    ("/v1/messages/batches", None),
    ("/v1/threads/t/messages", None),
    ("/v1/chat/completions/chatcmpl-1", None),
    ("/v1/chat/completions/", None),
    ("/v1/mychat/completionss", None),
    ("/v1/responses/resp_1/cancel", None),
    ("/v1/responses/input_tokens", None),
    ("/v1/chatcompletions", None),
    ("/v1/embeddings", None),
    ("/v1/models", None),
    ("", None),
    ("/", None),
]


@pytest.mark.parametrize(("path", "name"), POST)
def test_the_path_tells_the_format(path, name):
    found = wire.wire_for("POST", path)
    assert (found.NAME if found else None) == name
    assert wire.wire_for("post", path) is found
    assert wire.wire_for("GET", path) is None
    assert wire.is_embeddings("POST", path) == (path == "/v1/embeddings")


def test_the_model_that_is_asked_for():
    assert WIRES["openai_chat"].model("/v1/chat/completions", {"model": "m"}) == "m"
    assert WIRES["openai_chat"].model("/openai/deployments/d/chat/completions?a=1", {}) == "d"
    assert WIRES["openai_chat"].model("/v1/chat/completions", {"model": 5}) == ""
    assert WIRES["anthropic_messages"].model("/v1/messages", {"model": "m"}) == "m"
    assert WIRES["gemini"].model("/v1beta/models/g-1:streamGenerateContent?alt=sse", {}) == "g-1"


def test_what_a_request_wants():
    chat, gemini = WIRES["openai_chat"], WIRES["gemini"]
    assert chat.wants_stream(PATHS["openai_chat"], {"stream": True})
    assert not chat.wants_stream(PATHS["openai_chat"], {"stream": False})
    assert gemini.wants_stream("/models/g:streamGenerateContent?alt=sse", {})
    assert not gemini.wants_stream("/models/g:generateContent", {"stream": True})
    assert chat.wants_usage({"stream_options": {"include_usage": True}})
    assert not chat.wants_usage({"stream_options": {"include_usage": False}})
    assert not chat.wants_usage({"stream_options": None})


@pytest.mark.parametrize("place", sorted(FOLDER.glob("*/*.request.json")), ids=lambda p: p.stem)
def test_recorded_requests_may_be_cached(place):
    request = json.loads(place.read_text("utf-8"))
    found = wire.wire_for("POST", request["path"])
    if found is None:
        assert wire.is_embeddings("POST", request["path"])
        found = openai_embeddings
    else:
        stream = place.with_name(place.name.replace(".request.json", ".sse"))
        assert found.wants_stream(request["path"], request["body"]) == stream.exists()
    assert found.refusal(request["body"]) is None
