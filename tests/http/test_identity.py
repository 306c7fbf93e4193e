"""Two requests share an answer if all that decides it is the same, and only then."""

import itertools
import json
import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

import askonce
from askonce.http import passing
from tests.http.askers import CHAT, body

URL = "https://api.example.com" + CHAT
CACHE = askonce.HTTPCache("memory://")

BASE = {
    "url": URL,
    "headers": {"content-type": "application/json", "authorization": "Bearer k", "openai-beta": "a"},
    "body": {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        ],
        "temperature": 0.5,
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        "max_tokens": 100,
        "logit_bias": {"50256": -100},
    },
}


def key_of(url=URL, headers=None, body=None, content=None, cache=CACHE):
    given = json.dumps(body).encode() if content is None else content
    request = passing.request_of("POST", url, headers or {}, given)
    found = cache.understand(passing.origin_of(request), given)
    return found.question.key


def words(seed):
    source = random.Random(seed)
    return "".join(source.choices(string.ascii_lowercase + "-_", k=source.randint(1, 12)))


PRESENTATION = frozenset(askonce.wire.openai_chat.IGNORED)


def places_in(value, path=()):
    """Give the path of every value inside of a JSON value, the outermost too."""
    yield path
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from places_in(inner, (*path, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from places_in(inner, (*path, index))


def with_change(value, path, change):
    if not path:
        return change(value)
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = with_change(value[path[0]], path[1:], change)
    return copy


VALUES = [None, True, False, 0, 1, 2, -1, 0.0, 1.0, 0.1, 1e300, "", "0", "1", "true", "null", [], {},
          [None], [0], [[]], {"a": None}, {"": ""}, "é", "e\u0301", "\u0000", "\ud800", "Hi ", " Hi", "hi"]


def variants():
    """Give requests without end, each different from the base, and from all others, in a field."""
    seed = itertools.count()
    paths = [path for path in places_in(BASE["body"]) if path]
    objects = [path for path in places_in(BASE["body"]) if isinstance(at(path), dict)]
    for path, value in itertools.product(paths, VALUES):
        yield {**BASE, "body": with_change(BASE["body"], path, lambda _, value=value: value)}
    while True:
        number = next(seed)
        name = f"{words(number)}{number}"
        for path in objects:
            for value in (None, number, str(number), [number]):
                change = lambda found, value=value: {**found, name: value}  # noqa: E731
                yield {**BASE, "body": with_change(BASE["body"], path, change)}
        for value in ("", str(number)):
            yield {**BASE, "headers": {**BASE["headers"], f"x-{name}": value}}
            yield {**BASE, "url": f"{URL}?{name}={value}"}
        yield {**BASE, "url": f"https://{number}.example.com{CHAT}"}
        yield {**BASE, "url": f"https://api.example.com:{1000 + number}{CHAT}"}
        yield {**BASE, "url": f"https://api.example.com/{name}{CHAT}"}
        yield {**BASE, "headers": {**BASE["headers"], "openai-beta": name}}
        yield {**BASE, "headers": {**BASE["headers"], "host": f"{number}.example.com"}}


def at(path):
    value = BASE["body"]
    for step in path:
        value = value[step]
    return value


def identity_of(request):
    """Write a request down so that equal ones, and no others, look alike."""
    shown = json.dumps(request["body"], sort_keys=True)
    return request["url"], json.dumps(request["headers"], sort_keys=True), shown


def test_ten_thousand_requests_that_differ_in_one_field_have_different_keys():
    seen = {identity_of(BASE): BASE}
    for request in variants():
        seen.setdefault(identity_of(request), request)
        if len(seen) == 10_000:
            break
    keys = {key_of(**request) for request in seen.values()}
    assert len(keys) == 10_000


def shuffled(value, source):
    if isinstance(value, dict):
        names = source.sample(list(value), len(value))
        return {name: shuffled(value[name], source) for name in names}
    if isinstance(value, list):
        return [shuffled(inner, source) for inner in value]
    return value


def presented(number):
    """Write the base request in another way."""
    source = random.Random(number)
    ignored = source.sample(sorted(PRESENTATION), source.randint(0, len(PRESENTATION)))
    values = {"stream": True, "store": False}
    fields = {name: values.get(name, source.choice(["x", 1, {"a": 1}])) for name in ignored}
    request = shuffled({**BASE["body"], **fields}, source)
    indent = source.choice([None, 0, 1, "\t"])
    content = json.dumps(request, indent=indent, ensure_ascii=source.random() < 0.5)
    space = source.choice(["", " ", "\n\n"])
    headers = {
        **BASE["headers"],
        "authorization": f"Bearer {number}",
        "user-agent": f"SDK/{number}",
        "x-stainless-retry-count": str(number),
        "x-stainless-async": source.choice(["false", "async:asyncio"]),
        "traceparent": f"00-{number}",
        "idempotency-key": f"stainless-{number}",
        "accept": source.choice(["application/json", "text/event-stream"]),
        "accept-encoding": source.choice(["gzip", "br"]),
        "cache-control": source.choice(["max-age=5", "x"]),
        "connection": "keep-alive",
    }
    names = source.sample(list(headers), len(headers))
    kept = {name: headers[name] for name in names if name in BASE["headers"] or source.random() < 0.5}
    spelled = {source.choice([name, name.title(), name.upper()]): value for name, value in kept.items()}
    url = source.choice([URL, URL + "?", "https://API.example.com:443" + CHAT, f"{URL}?api_key={number}"])
    return {"url": url, "headers": spelled, "content": (space + content + space).encode()}


def test_requests_that_differ_in_presentation_only_have_one_key():
    keys = {key_of(**presented(number)) for number in range(2000)}
    assert keys == {key_of(**BASE)}


NAMES = st.text(min_size=1, max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


@given(first=JSON, second=JSON)
def test_unknown_fields_of_any_shape_count(first, second):
    same = json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
    keys = [key_of(body=body(unknown=value)) for value in (first, second)]
    assert (keys[0] == keys[1]) == same


QUERIES = {
    "": "",
    "?api-version=1": "",
    "?api-version=2": "",
    "?api-version=": "",
    "?a=1&a=2": "",
    "?a=2&a=1": "",
    "?a=1&b=2": "?b=2&a=1",
    "?a=%20": "?a=+",
    "?a=%FF": "",
    "?a=%FE": "",
    "?a=%25FF": "",
    "?a=é": "?a=%C3%A9",
    "?a=1%26b=2": "",
    "?key=1": "?key=2",
}


def test_queries_count_but_credentials_and_order_do_not():
    keys = {}
    for query, same in QUERIES.items():
        keys[query] = key_of(url=URL + query, body=body())
        if same:
            assert key_of(url=URL + same, body=body()) == keys[query]
    assert keys.pop("?key=1") == keys[""]
    assert len(set(keys.values())) == len(keys)


def test_headers_count_in_their_order():
    def key(*headers):
        request = passing.request_of("POST", URL, {}, json.dumps(body()))
        for pair in headers:
            request.headers = type(request.headers)([*request.headers.multi_items(), pair])
        return CACHE.understand(passing.origin_of(request), request.content).question.key

    a, b = ("anthropic-beta", "a"), ("anthropic-beta", "b")
    lists = [(), (a,), (b,), (a, b), (b, a), (("anthropic-beta", "a, b"),), (("x-title", "a"),)]
    assert len({key(*headers) for headers in lists}) == len(lists)


def test_more_headers_can_be_ignored():
    cache = askonce.HTTPCache("memory://", ignored_headers=["X-Title", "x-mine-*"])

    def key(name):
        return key_of(headers={name: "1"} if name else {}, body=body(), cache=cache)

    assert key("x-title") == key("X-Mine-Too") == key("")
    assert key("x-other") != key("")


def test_one_entry_for_both_methods_of_gemini():
    path = "https://h/v1beta/models/gemini-x:"
    asked = {"contents": [{"parts": [{"text": "Hi"}]}]}
    plain = key_of(url=path + "generateContent?key=1", body=asked)
    assert key_of(url=path + "streamGenerateContent?alt=sse&key=2", body=asked) == plain
    assert key_of(url="https://h/v1beta/models/gemini-y:generateContent", body=asked) != plain


# What other caches confuse, each named after it.


def test_litellm_unknown_parameters_of_a_provider_are_in_the_key():
    keys = {key_of(body=body(num_ctx=size)) for size in (1024, 2048)}
    keys |= {key_of(body=body(options={"num_ctx": size})) for size in (1024, 2048)}
    assert len(keys) == 4


def test_litellm_extra_bodies_headers_and_base_urls_are_in_the_key():
    """With the real SDK, whose extras are merged into the request."""
    import httpx2
    import openai

    keys = []

    def handler(request):
        keys.append(CACHE.understand(passing.origin_of(request), request.content).question.key)
        return httpx2.Response(400, json={})

    def ask(base="https://h/v1", **extra):
        with httpx2.Client(transport=httpx2.MockTransport(handler)) as http:
            client = openai.OpenAI(base_url=base, api_key="k", http_client=http, max_retries=0)
            with pytest.raises(openai.BadRequestError):
                client.chat.completions.create(model="m", messages=[], **extra)

    ask()
    ask(extra_body={"num_ctx": 1})
    ask(extra_body={"num_ctx": 2})
    ask(extra_headers={"x-route": "a"})
    ask(extra_headers={"x-route": "b"})
    ask(extra_query={"api-version": "1"})
    ask(base="https://other/v1")
    ask(base="https://h/proxy/v1")
    assert len(set(keys)) == len(keys) == 8
    ask()
    assert keys[-1] == keys[0]


def test_litellm_values_do_not_run_together():
    first = key_of(body={"model": "a", "messages": [], "user_": "bstream: True"})
    second = key_of(body={"model": "a", "messages": [], "user_": "b", "stream": True})
    third = key_of(body={"model": "auser_: b", "messages": [], "stream": True})
    assert len({first, second, third}) == 3


def test_litellm_the_order_of_names_does_not_matter():
    request = body(top_p=1, tools=[{"type": "function", "function": {"name": "f", "a": 1, "b": 2}}])
    backwards = json.loads(json.dumps(request), object_pairs_hook=lambda pairs: dict(reversed(pairs)))
    assert list(request) == list(reversed(backwards))
    assert key_of(body=request) == key_of(body=backwards)


def test_litellm_more_than_four_messages_are_cached():
    messages = [{"role": "user", "content": str(number)} for number in range(50)]
    shorter = body() | {"messages": messages[:-1]}
    assert key_of(body=body() | {"messages": messages}) != key_of(body=shorter)


def test_litellm_files_count_by_their_content_not_their_name():
    def file(data):
        part = {"type": "file", "file": {"filename": "a.pdf", "file_data": data}}
        return body() | {"messages": [{"role": "user", "content": [part]}]}

    assert key_of(body=file("data:application/pdf;base64,AAAA")) != key_of(
        body=file("data:application/pdf;base64,AAAB")
    )


def batch_of(**fields):
    request = passing.request_of("POST", "https://h/v1/embeddings", {}, fields)
    return CACHE.understand(passing.origin_of(request), request.content).inputs.keys


def test_redisvl_dimensions_are_in_the_key():
    keys = [batch_of(model="m", input="a", **extra)[0] for extra in ({}, {"dimensions": 2}, {"dimensions": 3})]
    assert len(set(keys)) == 3


def test_redisvl_contents_and_models_do_not_run_together():
    assert batch_of(model="bm", input="a") != batch_of(model="m", input="ab")
    assert len({*batch_of(model="m", input=["a", "b"]), *batch_of(model="m", input=["ab", ""])}) == 4


def test_llama_index_models_are_in_the_key():
    assert batch_of(model="small", input="a") != batch_of(model="large", input="a")


def test_llama_index_texts_of_a_batch_do_not_run_together():
    """One changed text leaves the others alone."""
    before = batch_of(model="m", input=["ab", "c", "d"])
    after = batch_of(model="m", input=["a", "bc", "d"])
    assert before[2] == after[2]
    assert not set(before[:2]) & set(after[:2])
