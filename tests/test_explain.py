"""What identifies a request, and where two of them differ."""

import importlib
import json

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

import askonce
from askonce.explain import MISSING, Difference, differences

URL = "https://api.example/v1/chat/completions"
CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(), below, max_size=3),
    max_leaves=6,
)


@pytest.fixture
def cache():
    return askonce.HTTPCache("memory://")


def asked(body=CHAT, url=URL, headers=()):
    return {"url": url, "headers": dict(headers), "body": body}


def test_tells_identity_key_and_what_is_ignored_and_why(cache):
    request = asked(
        {**CHAT, "stream": True, "user": "u", "seed": 1},
        f"{URL}?api-version=2&key=secret",
        {
            "authorization": "Bearer secret",
            "x-stainless-lang": "python",
            "Traceparent": "00",
            "Cache-Control": "max-age=5",
            "Anthropic-Beta": "b",
            "Askonce-Sample": "2",
        },
    )
    found = cache.explain(request)
    assert (found.kind, found.model, found.refusal) == ("chat", "m", "")
    assert found.identity == {
        "method": "POST",
        "url": f"{URL}?api-version=2",
        "headers": {"askonce-sample": "2", "anthropic-beta": "b"},
        "body": {**CHAT, "seed": 1},
    }
    assert found.ignored == {
        "query.key": "credentials",
        "headers.authorization": "credentials",
        "headers.x-stainless-lang": "telemetry of an SDK",
        "headers.traceparent": "tracing",
        "headers.cache-control": "meant for caches",
        "body.stream": "one entry serves streams and plain answers",
        "body.user": "it names the end user to the provider's abuse monitoring",
    }
    assert "secret" not in str(found)


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_a_request_and_its_parts_have_the_key_of_what_is_kept(library):
    module = importlib.import_module(library)
    store = askonce.open_store("memory://")
    cache = askonce.HTTPCache(store)

    def answer(request):
        reply = {"choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}]}
        return module.Response(200, json=reply)

    transport = askonce.transport(cache, module.MockTransport(answer), library=library)
    with module.Client(transport=transport) as client:
        response = client.post(URL, json={**CHAT, "stream": False}, headers={"user-agent": "u"})
    (key,) = store.keys()
    assert cache.explain(response.request).keys == [key]
    assert cache.explain(asked()).keys == [key]
    assert cache.explain(cache.explain(asked()).identity).keys == [key]


def test_a_batch_has_a_key_for_each_input(cache):
    body = {"model": "m", "input": ["a", "b", "a"], "encoding_format": "base64"}
    found = cache.explain(asked(body, "https://api.example/v1/embeddings"))
    assert found.kind == "embedding"
    one, two, three = found.keys
    assert one == three != two
    assert found.identity["body"] == {"input": ["a", "b", "a"], "model": "m"}
    assert found.ignored == {"body.encoding_format": "it tells how a vector is written"}


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (asked(url="https://api.example/v1/models"), "neither for an answer nor for embeddings"),
        ({**asked(), "method": "GET"}, "neither for an answer nor for embeddings"),
        (asked({**CHAT, "store": True}), "`store` asks the provider to keep"),
        (asked("{"), "the body is not JSON"),
        (asked(headers={"cache-control": "no-store"}), "no-store is asked for"),
    ],
)
def test_tells_why_a_request_is_not_cached(cache, request_, reason):
    assert reason in cache.explain(request_).refusal


def test_tells_what_the_rules_of_the_cache_add():
    cache = askonce.HTTPCache("memory://", namespace="n", ignored_headers=["x-mine"], random=False)
    assert "random" in cache.explain(asked()).refusal
    seeded = {**CHAT, "temperature": 0}
    found = cache.explain(asked(seeded, headers={"x-mine": "1"}))
    assert found.ignored == {"headers.x-mine": "as told"}
    assert found.identity["headers"] == {"askonce-namespace": "n"}


def test_holders_of_different_credentials_differ_in_a_digest():
    cache = askonce.HTTPCache("memory://", isolate="credential")
    one, two = (asked(headers={"authorization": name}) for name in ("one", "two"))
    (found,) = cache.explain(one, two)
    assert found.path == "credential"
    assert cache.explain(one).ignored == {}
    assert "one" not in cache.explain(one).identity["credential"]


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (asked({**CHAT, "stream": True}, headers={"user-agent": "x"}), []),
        (asked({**CHAT, "seed": 1}), [("body.seed", MISSING, 1)]),
        (asked(url="https://other.example/v1/chat/completions"), [("url", URL, None)]),
        (asked(headers={"x-new": "1"}), [("headers.x-new", MISSING, "1")]),
        (
            asked({"model": "n", "messages": [{"role": "user", "content": "Ho"}, {}]}),
            [
                ("body.messages[0].content", "Hi", "Ho"),
                ("body.messages[1]", MISSING, {}),
                ("body.model", "m", "n"),
            ],
        ),
    ],
)
def test_tells_every_field_in_which_two_requests_differ(cache, other, expected):
    found = cache.explain(asked(), other)
    assert [(one.path, one.first) for one in found] == [(path, first) for path, first, _ in expected]
    assert all(second in (None, one.second) for one, (*_, second) in zip(found, expected, strict=True))
    assert (found == []) == (cache.explain(asked()).keys == cache.explain(other).keys)


@given(first=JSON, second=JSON)
def test_no_difference_means_equal(first, second):
    same = json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
    assert (differences(first, second) == []) == same
    assert differences(first, first) == []


@pytest.mark.parametrize("first, second", [(1, 1.0), (1, True), (0, False), (None, MISSING), ([], {})])
def test_values_that_python_calls_equal_differ(first, second):
    assert differences({"a": first}, {"a": second}) == [Difference("a", first, second)]


def test_long_values_are_shown_where_they_begin_to_differ():
    one, other = Difference("a", "x" * 500 + "one" + "y" * 500, "x" * 500 + "two" + "y" * 500).shown()
    assert len(one) == len(other) == 102
    assert one.startswith("…xxx") and one.endswith("yyy…")
    assert "one" in one and "two" in other
    assert Difference("a", MISSING, "é").shown() == ("(none)", '"é"')


@pytest.mark.parametrize(
    "request_",
    [{}, {"url": 5}, {"url": "/v1/chat/completions"}, {**asked(), "headers": ["a"]}, {"url": "https://h", "body": {"a": {1}}}],
)
def test_what_is_no_request(cache, request_):
    with pytest.raises(askonce.InputError):
        cache.explain(request_)


def test_default_ports_and_user_names_are_no_part_of_an_origin(cache):
    plain, other = asked(), asked(url=URL.replace("api.example", "user:word@API.example:443"))
    assert cache.explain(plain, other) == []
    request = httpx2.Request("POST", other["url"], json=CHAT)
    assert cache.explain(plain, request) == []
