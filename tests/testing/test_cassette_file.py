"""Cassettes as text: what they tell and what they never do."""

import json

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

import askonce
from askonce.core import codecs, entry, keys
from askonce.core.keys import Subject
from askonce.http import passing
from askonce.http.exchange import Batch, Exchange
from askonce.testing import cassette_file
from askonce.testing.cassettes import Witnessed

CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hi, «you»!"}]}


def question(url="https://api.example/v1/chat/completions", body=CHAT, headers=(), **rules):
    """Ask a cache, with a witness beside it; give the key and what it stands for."""
    witnessed = Witnessed()
    cache = askonce.HTTPCache("memory://", **rules)
    request = httpx2.Request("POST", url, json=body, headers=dict(headers))
    with keys.witnessed(witnessed.see):
        found = cache.understand(passing.origin_of(request), request.content)
    assert isinstance(found, Exchange | Batch)
    key = found.question.key if isinstance(found, Exchange) else found.inputs.keys[0]
    return key, witnessed.request_of(key)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"headers": {"anthropic-beta": "x", "authorization": "Bearer secret", "user-agent": "y"}},
        {"headers": {"Askonce-Sample": "3", "Askonce-Namespace": "a team"}},
        {"url": "https://api.example:8443/openai/v1/chat/completions?api-version=2&key=secret"},
        {"url": "https://h/v1beta/models/g:generateContent", "body": {"contents": []}},
        {"url": "https://h/v1beta/models/g:streamGenerateContent?alt=sse", "body": {"contents": []}},
        {"url": "https://h/openai/deployments/d/chat/completions", "body": {"messages": []}},
        {"url": "https://h/v1/messages", "body": {**CHAT, "max_tokens": 1.0, "stream": True}},
        {"url": "https://h/v1/embeddings", "body": {"model": "m", "input": ["text:é\n"]}},
        {"url": "https://h/v1/embeddings", "body": {"model": "m", "input": [[1, 2**40], "a"]}},
        {"url": "https://h/v1/embeddings", "body": {"input": "x", "encoding_format": "base64"}},
        {"namespace": "n", "sample": 2, "ignored_headers": ["x-mine"], "headers": {"x-mine": "1"}},
        {"headers": [("x-two", "1, 2")]},
    ],
)
def test_a_request_is_told_as_one_and_has_the_same_key(asked):
    key, request = question(**asked)
    assert set(request) == {"method", "url", "headers", "body"}
    assert cassette_file.key_of(json.loads(json.dumps(request))) == key
    assert "secret" not in json.dumps(request)
    assert "x-mine" not in json.dumps(request)


def test_who_asked_is_not_recorded():
    one, request = question(isolate="credential", headers={"authorization": "Bearer one"})
    other, same = question(isolate="credential", headers={"authorization": "Bearer two"})
    assert one != other
    assert request == same
    assert "credential" not in json.dumps(request)


def test_repeated_headers_stay_apart():
    request = {**question()[1], "headers": {"x-two": ["1", "2"]}}
    joined = {**request, "headers": {"x-two": "1, 2"}}
    assert cassette_file.key_of(request) != cassette_file.key_of(joined)


@given(
    kind=st.text(),
    model=st.text(),
    namespace=st.text(),
    parameters=st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.floats()), max_size=3),
    content=st.binary(max_size=20) | st.text().map(str.encode) | st.just(b'{"a":1}'),
)
def test_any_subject_finds_its_cassette_again(kind, model, namespace, parameters, content):
    subject = Subject(namespace, kind, model, parameters)
    (key,) = subject.keys(subject.digests([content]))
    request = cassette_file.identify(key, subject, content)
    blob = entry.pack(entry.Entry(b'{"answer": 1}', codecs.JSON, 5.0, 9.0, 77))
    text = cassette_file.write(cassette_file.record(request, blob)).decode()
    recorded = cassette_file.read(text)
    assert recorded.key == key
    found = entry.unpack(recorded.pack(key, now=8.0))
    assert (found.payload, found.codec, found.created) == (b'{"answer": 1}', codecs.JSON, 8.0)
    assert found.expires == entry.NEVER
    own = entry.binding_of(bytes.fromhex(key.rpartition("/")[2]))
    assert found.binding == (77 if "key" in request else own)
    assert cassette_file.write(recorded).decode() == text


@given(key=st.text(min_size=1), value=st.binary(max_size=40))
def test_what_is_no_entry_comes_back_too(key, value):
    recorded = cassette_file.record(cassette_file.identify(key, None, b""), value)
    assert cassette_file.read(cassette_file.write(recorded).decode()).pack(key, now=1.0) == value


def test_a_cassette_is_one_field_a_line_and_many_numbers_in_one():
    blob = entry.pack(
        entry.Entry(b'{"b":[1,2],"a":{},"c":[{"d":"\xc3\xa9"}]}', codecs.JSON, 1.0, meta={"z": 1, "y": 2})
    )
    text = cassette_file.write(cassette_file.record({"key": "k"}, blob)).decode()
    assert text == """\
{
  "request": {
    "key": "k",
    "binding": "0"
  },
  "answer": {
    "json": {
      "b": [
        1, 2
      ],
      "a": {},
      "c": [
        {
          "d": "é"
        }
      ]
    }
  },
  "meta": {
    "y": 2,
    "z": 1
  }
}
"""


@pytest.mark.parametrize(
    ("request_", "start"),
    [
        ({"url": "https://h/v1/chat/completions", "body": CHAT}, "hi-you-"),
        ({"url": "https://h/v1/embeddings", "body": {"input": [[1]]}}, "cassette-"),
        ({"url": "https://h/v1/messages", "body": {"messages": [{"content": [{"text": "A b"}]}]}}, "a-b-"),
        ({"kind": "chat", "model": "m", "parameters": {}, "text": "messages:t5:Hellom9:{}"}, "hello-"),
        ({"key": "../../etc/passwd"}, "etc-passwd-"),
    ],
)
def test_files_are_named_for_people(request_, start):
    recorded = cassette_file.Recorded(cassette_file.key_of(request_), request_, {}, {})
    assert cassette_file.name_of(recorded).startswith(start)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"request": {}, "answer": {"json": 1}}',
        '{"request": {"key": "k"}, "answer": {}}',
        '{"request": {"key": "k"}, "answer": 5}',
        '{"request": {"url": "https://h/other", "body": {}}, "answer": {"json": 1}}',
        '{"request": {"url": "nowhere", "body": {}}, "answer": {"json": 1}}',
    ],
)
def test_what_is_no_cassette(text):
    with pytest.raises(askonce.InputError):
        cassette_file.read(text)
