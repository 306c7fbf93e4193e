"""Embeddings, input by input: only the missing ones are asked for, each once, in any encoding."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import askonce
from tests.http import server as servers
from tests.http.askers import make
from tests.http.embedding import PATH, asked_for, embed, inputs_of, proper, right
from tests.http.server import Script, plain

@pytest.fixture
def provider():
    with servers.running(embed) as server:
        yield server


@pytest.fixture
def url(provider):
    return provider.address + PATH


def test_only_the_missing_are_asked_for_and_duplicates_once(asker, provider, url):
    for batch in (["a", "b", "a"], ["b", "c", "a", "c"], ["c", "b"], ["d"]):
        right(asker.ask(url, {"model": "m", "input": batch}), batch)
    assert asked_for(provider) == [["a", "b"], ["c"], ["d"]]


def test_one_batch_of_new_inputs_passes_through_byte_for_byte(kind, maker, provider, url):
    request = json.dumps({"input": ["a", "b"], "model": "m"}, indent=1).encode()
    without = maker(kind).ask(url, request)
    reply = maker(kind, "memory://").ask(url, request)
    assert reply.raw == without.raw
    assert [pair for pair in reply.headers if pair[0] != "cache-status"] == without.headers
    first, second = provider.asked
    assert (first.headers, first.body) == (second.headers, second.body)
    assert reply.header("cache-status") == "askonce; fwd=miss"


@pytest.mark.parametrize("first", ["float", "base64", None])
@pytest.mark.parametrize("second", ["float", "base64", None])
def test_how_a_vector_is_written_is_presentation(asker, provider, url, first, second):
    def request(encoding):
        named = {} if encoding is None else {"encoding_format": encoding}
        return {"model": "m", "input": ["a", "b"], **named}

    right(asker.ask(url, request(first)), ["a", "b"])
    reply = asker.ask(url, request(second))
    right(reply, ["a", "b"])
    assert isinstance(reply.json()["data"][0]["embedding"], str) == (second == "base64")
    assert provider.count == 1
    assert reply.hit


def test_numbers_keep_every_bit(asker, url, provider):
    precise = [0.1, 1 / 3, 1e-300, -0.0, 5.0]
    provider.answer = lambda asked: plain(
        {"object": "list", "model": "m", "data": [{"object": "embedding", "index": 0, "embedding": precise}]}
    )
    asker.ask(url, {"model": "m", "input": "a"})
    again = asker.ask(url, {"model": "m", "input": ["a"], "encoding_format": "float"})
    assert again.hit
    assert list(map(repr, again.json()["data"][0]["embedding"])) == list(map(repr, precise))


def test_dimensions_and_unknown_fields_count(asker, provider, url):
    for fields in ({}, {"dimensions": 4}, {"task": "query"}, {"task": "passage"}):
        for _ in range(2):
            reply = asker.ask(url, {"model": "m", "input": ["a"], **fields})
            right(reply, ["a"], fields.get("dimensions", 8))
    assert provider.count == 4


def test_tokens_texts_and_both_in_one_batch(asker, provider, url):
    batches = ["1", ["1"], [1], [[1]], ["1", [1], [1, 2], "1"], [[1, 2], [2, 1]], [12]]
    for batch in batches:
        right(asker.ask(url, {"model": "m", "input": batch}), inputs_of({"input": batch}))
    assert asked_for(provider) == [["1"], [[1]], [[1, 2]], [[2, 1]], [[12]]]


def test_usage_is_what_was_paid(asker, provider, url):
    first = asker.ask(url, {"model": "m", "input": ["aa", "bbb"]}).json()
    partly = asker.ask(url, {"model": "m", "input": ["aa", "cccc"]})
    hit = asker.ask(url, {"model": "m", "input": ["aa", "bbb", "cccc"]})
    assert first["usage"] == {"prompt_tokens": 5, "total_tokens": 5}
    assert partly.json()["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
    assert partly.header("cache-status") == "askonce; fwd=partial"
    assert partly.header("x-request-id") == "r1"
    assert hit.json()["usage"] == {"prompt_tokens": 0, "total_tokens": 0}
    assert hit.hit


def test_usage_is_not_made_up(asker, provider, url):
    def silent(asked):
        answer = proper(asked.json())
        del answer["usage"]
        return plain(answer)

    asker.ask(url, {"model": "m", "input": ["aa"]})
    provider.answer = silent
    assert "usage" not in asker.ask(url, {"model": "m", "input": ["aa", "b"]}).json()


def test_the_order_is_by_index(asker, provider, url):
    def shuffled(asked):
        answer = proper(asked.json())
        answer["data"].reverse()
        return plain(answer)

    provider.answer = shuffled
    asker.ask(url, {"model": "m", "input": ["a", "b", "c"]})
    right(asker.ask(url, {"model": "m", "input": ["b", "x", "a", "y", "c"]}), ["b", "x", "a", "y", "c"])
    right(asker.ask(url, {"model": "m", "input": ["c", "b", "a"]}), ["c", "b", "a"])
    assert provider.count == 2


def changed(**changes):
    return lambda request: plain(proper(request, **changes))


def with_data(change):
    def answer(request):
        said = proper(request)
        return plain({**said, "data": change(said["data"])})

    return answer


UNUSABLE = {
    "not JSON": lambda request: plain(b"<busy>", kind="text/html"),
    "a name twice": lambda request: plain(b'{"data": [], "data": []}'),
    "an error with status 200": lambda request: plain({"error": {"message": "no"}}),
    "no data": changed(data=None),
    "too few": with_data(lambda data: data[:-1]),
    "too many": with_data(lambda data: [*data, data[0]]),
    "an index twice": with_data(lambda data: [{**item, "index": 0} for item in data]),
    "an index out of range": with_data(lambda data: [{**item, "index": item["index"] + 1} for item in data]),
    "no index": with_data(lambda data: [{"embedding": item["embedding"]} for item in data]),
    "different lengths": with_data(lambda data: [*data[:-1], {**data[-1], "embedding": [1.0]}]),
    "text in it": with_data(lambda data: [{**item, "embedding": ["a"]} for item in data]),
    "bad base64": with_data(lambda data: [{**item, "embedding": "@@@"} for item in data]),
    "gzip that is none": lambda request: plain(b"{}", 200, ("Content-Encoding", "gzip")),
}


@pytest.mark.parametrize("name", UNUSABLE)
@pytest.mark.parametrize("batch", [["a", "b"], ["a", "known", "b", "a"]])
def test_what_cannot_be_used_is_the_caller_s_to_see(kind, maker, provider, url, name, batch):
    asker = maker(kind, "memory://")
    asker.ask(url, {"model": "m", "input": ["known"]})
    request = {"model": "m", "input": batch}
    provider.answer = lambda asked: UNUSABLE[name](asked.json())
    without = seen(maker(kind), url, request)
    assert seen(asker, url, request) == without
    provider.answer = embed
    right(asker.ask(url, request), batch)
    assert asked_for(provider)[-1] == ["a", "b"]


def seen(asker, url, request):
    try:
        reply = asker.ask(url, request)
    except Exception as error:
        return type(error).__name__
    return reply.status, reply.raw, [pair for pair in reply.headers if pair[0] != "cache-status"]


@pytest.mark.parametrize("status", [400, 401, 429, 500, 503])
def test_errors_of_the_provider_pass_untouched(kind, maker, provider, url, status):
    asker = maker(kind, "memory://")
    asker.ask(url, {"model": "m", "input": ["known"]})
    provider.answer = lambda asked: plain({"error": {"message": "é no"}}, status, ("Retry-After", "3"))
    without = seen(maker(kind), url, {"model": "m", "input": ["a"]})
    assert seen(asker, url, {"model": "m", "input": ["known", "a"]}) == without
    provider.answer = embed
    assert asker.ask(url, {"model": "m", "input": ["known", "a"]}).json()["usage"]["total_tokens"] == 1


REFUSED = {
    "nothing": [],
    "no input": None,
    "an empty list of tokens": [[]],
    "numbers that are no tokens": [1.5],
    "negative tokens": [-1],
    "objects": [{"text": "a"}],
    "images beside texts": ["a", {"image": "data:"}],
}


@pytest.mark.parametrize("name", REFUSED)
def test_inputs_that_we_do_not_know_pass_untouched(asker, provider, url, name):
    provider.answer = lambda asked: plain({"error": {"message": "no"}}, 422)
    reply = asker.ask(url, {"model": "m", "input": REFUSED[name]})
    assert (reply.status, provider.count) == (422, 1)
    assert provider.asked[0].json() == {"model": "m", "input": REFUSED[name]}
    assert reply.header("cache-status").startswith("askonce; fwd=bypass")


def test_no_cache_asks_anew_and_stores(asker, provider, url):
    asker.ask(url, {"model": "m", "input": ["a"]})
    provider.answer = lambda asked: plain(
        proper(asked.json(), data=[{"object": "embedding", "index": 0, "embedding": [1.0] * 8}])
    )
    fresh = asker.ask(url, {"model": "m", "input": ["a"]}, {"cache-control": "no-cache"})
    assert fresh.header("cache-status") == "askonce; fwd=request"
    assert provider.count == 2
    again = asker.ask(url, {"model": "m", "input": ["a"]})
    assert again.json()["data"][0]["embedding"] == [1.0] * 8
    assert again.hit


def test_no_store_gives_what_is_there_and_stores_nothing(asker, provider, url):
    asker.ask(url, {"model": "m", "input": ["a"]})
    before = sorted(asker.cache.store.keys())
    for _ in range(2):
        reply = asker.ask(url, {"model": "m", "input": ["a", "b"]}, {"cache-control": "no-store"})
        right(reply, ["a", "b"])
    assert asked_for(provider) == [["a"], ["b"], ["b"]]
    assert sorted(asker.cache.store.keys()) == before


def test_no_cache_and_no_store_touch_nothing(asker, provider, url):
    asker.ask(url, {"model": "m", "input": ["a"]})
    asker.ask(url, {"model": "m", "input": ["a", "b"]}, {"cache-control": "no-cache, no-store"})
    assert asked_for(provider) == [["a"], ["a", "b"]]
    assert len(list(asker.cache.store.keys())) == 1


def test_only_if_cached(asker, provider, url):
    asker.ask(url, {"model": "m", "input": ["a"]})
    only = {"cache-control": "only-if-cached"}
    right(asker.ask(url, {"model": "m", "input": ["a", "a"]}, only), ["a", "a"])
    for request in ({"input": ["a", "b"]}, {"input": ["c"]}, {"input": {}}):
        reply = asker.ask(url, {"model": "m", **request}, only)
        assert (reply.status, reply.header("x-should-retry")) == (504, "false")
    assert provider.count == 1


def test_max_age_and_ttl(asker, provider, url, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr("askonce.core.flow.now", lambda: clock[0])
    asker.ask(url, {"model": "m", "input": ["a"]}, {"askonce-ttl": "100"})
    clock[0] = 1050.0
    assert asker.ask(url, {"model": "m", "input": ["a"]}, {"cache-control": "max-age=60"}).hit
    right(asker.ask(url, {"model": "m", "input": ["a", "b"]}, {"cache-control": "max-age=40"}), ["a", "b"])
    assert asked_for(provider) == [["a"], ["a", "b"]]
    asker.ask(url, {"model": "m", "input": ["b"]}, {"askonce-ttl": "5"})
    clock[0] = 1e6
    assert asker.ask(url, {"model": "m", "input": ["a"]}).hit  # stored again, without an end


def test_an_embedding_expires(asker, provider, url, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr("askonce.core.flow.now", lambda: clock[0])
    asker.ask(url, {"model": "m", "input": ["a"]}, {"askonce-ttl": "100"})
    clock[0] = 1100.0
    asker.ask(url, {"model": "m", "input": ["a"]})
    assert provider.count == 2


def test_samples_and_namespaces_are_apart(asker, provider, url):
    for headers in ({}, {"askonce-sample": "1"}, {"askonce-namespace": "n"}):
        asker.ask(url, {"model": "m", "input": ["a"]}, headers)
    assert provider.count == 3


def test_batches_at_the_same_moment_share_what_they_have_in_common(maker, provider, url, tmp_path):
    first = threading.Event()
    opened = threading.Event()

    def held(asked):
        first.set()
        assert opened.wait(30)
        return embed(asked)

    provider.answer = Script([held], rule=embed)
    with askonce.open_store(f"sqlite:///{tmp_path}/cache.db") as store, ThreadPoolExecutor(4) as pool:
        askers = [maker("httpx2", store) for _ in range(4)]
        batches = [["a", "b"], ["b", "c"], ["c", "a", "d"], ["a", "b", "c", "d"]]
        asking = [pool.submit(askers[0].ask, url, {"model": "m", "input": batches[0]})]
        assert first.wait(30)
        asking += [
            pool.submit(asker.ask, url, {"model": "m", "input": batch})
            for asker, batch in zip(askers[1:], batches[1:], strict=True)
        ]
        opened.set()
        for one, batch in zip(asking, batches, strict=True):
            right(one.result(), batch)
        assert not store.flights._flights
        assert not store.leases._held
    sent = [content for batch in asked_for(provider) for content in batch]
    assert sorted(sent) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("wish", ["no-cache", "no-store"])
def test_who_wants_to_be_alone_waits_for_nobody(maker, provider, url, wish):
    first, opened = threading.Event(), threading.Event()

    def held(asked):
        first.set()
        assert opened.wait(30)
        return embed(asked)

    provider.answer = Script([held], rule=embed)
    with askonce.open_store("memory://") as store, ThreadPoolExecutor(1) as pool:
        request = {"model": "m", "input": ["a"]}
        asking = pool.submit(maker("httpx2", store).ask, url, request)
        assert first.wait(30)
        right(maker("httpx2", store).ask(url, request, {"cache-control": wish}), ["a"])
        assert not asking.done()
        opened.set()
        right(asking.result(), ["a"])


TEXTS = st.text(max_size=3) | st.sampled_from(["a", "b", "c", "1"])
BATCHES = st.lists(TEXTS | st.lists(st.integers(0, 3), min_size=1, max_size=2), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(
        st.tuples(BATCHES, st.sampled_from(["float", "base64"]), st.sampled_from([None, 3])),
        min_size=1,
        max_size=5,
    )
)
@pytest.mark.parametrize("kind", ["httpx2"], indirect=True)
def test_every_batch_is_answered_as_without_a_cache(kind, provider, url, batches):
    asker = make(kind, "memory://")
    provider.asked.clear()
    for batch, encoding, dimensions in batches:
        request = {"model": "m", "input": batch, "encoding_format": encoding}
        if dimensions:
            request["dimensions"] = dimensions
        right(asker.ask(url, request), inputs_of(request), dimensions or 8)
    asker.close()
    sent = [
        (json.dumps(content), asked.json().get("dimensions"))
        for asked in provider.asked
        for content in inputs_of(asked.json())
    ]
    assert len(sent) == len(set(sent))


def test_an_input_forgotten_is_asked_for_again(asker, provider, url):
    asker.ask(url, {"model": "m", "input": ["a", "b", "c"]})
    headers = {"content-type": "application/json"}
    forgotten = asker.cache.forget(url=url, headers=headers, body={"model": "m", "input": ["a", "b", "x"]})
    assert forgotten == 2
    asker.ask(url, {"model": "m", "input": ["a", "b", "c"]})
    assert asked_for(provider) == [["a", "b", "c"], ["a", "b"]]
