"""explain: what identifies a request, what is ignored, where two differ, whether it is there."""

import json
import time

import httpx2
import pytest

import askonce as package
from askonce.core import entry

URL = "https://api.example/v1/chat/completions"
BODY = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture
def file(tmp_path):
    def write(name="request.json", **fields):
        (tmp_path / name).write_text(json.dumps({"url": URL, "body": BODY, **fields}))
        return name

    return write


def test_tells_key_identity_and_what_is_ignored(askonce, file):
    result = askonce("explain", file(headers={"Authorization": "Bearer secret"}))
    assert result.code == 0
    assert result.out.startswith("Key  _/chat/m/")
    assert '"content": "Hi"' in result.out
    assert "headers.authorization  credentials" in result.out
    assert "secret" not in result.out


def test_tells_why_a_request_is_not_cached(askonce, file):
    result = askonce("explain", file(body={**BODY, "store": True}))
    assert result.code == 0
    assert result.out == (
        "Not cached: `store` asks the provider to keep the answer under an id of its own\n"
    )


def test_tells_where_two_requests_differ(askonce, file):
    other = file("other.json", body={**BODY, "temperature": 0})
    result = askonce("explain", file(), other)
    assert result.out.splitlines()[-1].split() == ["body.temperature", "(none)", "0"]
    same = file("same.json", body={**BODY, "stream": True})
    assert askonce("explain", file(), same).out.endswith("Both have the same key.\n")
    other = file("other.json", body={**BODY, "store": True})
    assert "The other is not cached: `store`" in askonce("explain", file(), other).out


def ask(url, **wishes):
    def answer(request):
        reply = {"choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}]}
        return httpx2.Response(200, json=reply)

    made = package.transport(url, httpx2.MockTransport(answer), **wishes)
    with httpx2.Client(transport=made) as client:
        client.post(URL, json=BODY)


def test_tells_whether_a_store_has_it(askonce, file):
    package.open_store("sqlite:///a.db").close()
    result = askonce("explain", file(), "--store", "sqlite:///a.db")
    assert result.out.splitlines()[-1].split()[1:] == ["not", "there"]
    ask("sqlite:///a.db", ttl=7200, tags=["b", "a"])
    result = askonce("explain", file(), "--store", "sqlite:///a.db")
    assert result.out.splitlines()[-2].split() == [
        "entry", "is", "age", "expires", "in", "tags", "size",
    ]
    _, is_there, age, expires, *tags, count, unit = result.out.splitlines()[-1].split()
    assert (is_there, age, tags, unit) == ("there", "0:00:00", ["a,", "b"], "B")
    assert expires.startswith(("1:59:", "2:00:00"))
    assert int(count) > 100


def test_tells_what_is_expired_or_damaged(askonce, file):
    ask("sqlite:///a.db")
    with package.open_store("sqlite:///a.db") as store:
        (key,) = store.keys()
        now = time.time()
        store.write({key: entry.pack(entry.Entry(b"{}", 16, now - 90000, now - 10))})
    result = askonce("explain", file(), "--store", "sqlite:///a.db")
    assert "expired  1 day, 1:00:00" in result.out
    with package.open_store("sqlite:///a.db") as store:
        store.write({key: b"damaged"})
    assert "damaged" in askonce("explain", file(), "--store", "sqlite:///a.db").out


def test_explains_a_cassette(askonce, file, tmp_path):
    (tmp_path / "cassette.json").write_text(
        json.dumps({"request": {"url": URL, "body": BODY}, "answer": {"json": {}}})
    )
    assert askonce("explain", "cassette.json").out == askonce("explain", file()).out


def test_explains_a_batch_of_embeddings(askonce, file):
    body = {"model": "m", "input": ["a", "b", "a"]}
    url = "https://api.example/v1/embeddings"
    package.open_store("sqlite:///a.db").close()
    result = askonce("explain", file(url=url, body=body), "--store", "sqlite:///a.db")
    assert result.out.count("Key  _/embedding/m/") == 3
    assert result.out.count("not there") == 2


@pytest.mark.parametrize("text", ["", "[1]", '{"url": "nowhere"}', '{"body": {}}', "5"])
def test_what_is_no_request_is_one_line(askonce, tmp_path, text):
    (tmp_path / "request.json").write_text(text)
    result = askonce("explain", "request.json")
    assert result.code == 1
    assert "request.json" in result.error


def test_a_file_that_is_not_there(askonce):
    assert "nowhere.json" in askonce("explain", "nowhere.json").error


def test_a_store_that_is_not_there(askonce, file):
    assert "there is no store" in askonce("explain", file(), "--store", "sqlite:///none.db").error
