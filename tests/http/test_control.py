"""What a caller asks of the cache, in headers and in Python."""

import asyncio
import contextvars
import threading

import pytest

import askonce
from tests.http import askers
from tests.http import server as servers
from tests.http.askers import body
from tests.http.server import Hang, Script, chunked, completion, events, plain


@pytest.fixture
def clock(monkeypatch):
    """Stand in for the time: a list with the seconds."""
    now = [1000.0]
    monkeypatch.setattr("askonce.core.flow.now", lambda: now[0])
    return now


def texts(*words):
    """Answer each request with the next word."""
    left = list(words)
    return lambda asked: plain(completion(left.pop(0)))


def text_of(reply):
    return reply.json()["choices"][0]["message"]["content"]


def test_the_status_of_a_miss_and_a_hit(asker, provider, url, clock):
    first = asker.ask(url, body())
    clock[0] += 7.9
    second = asker.ask(url, body())
    assert first.header("cache-status") == "askonce; fwd=miss"
    assert first.header("age") is None
    assert second.header("cache-status") == "askonce; hit"
    assert second.header("age") == "7"


def test_ttl_in_a_header(asker, provider, url, clock):
    asker.ask(url, body(), {"Askonce-TTL": "60"})
    clock[0] += 59
    hit = asker.ask(url, body())
    assert hit.header("cache-status") == "askonce; hit; ttl=1"
    clock[0] += 1
    assert asker.ask(url, body()).header("cache-status") == "askonce; fwd=stale"
    assert provider.count == 2


def test_no_cache_asks_anew_and_keeps(asker, provider, url):
    provider.answer = texts("one", "two")
    asker.ask(url, body())
    fresh = asker.ask(url, body(), {"Cache-Control": "no-cache"})
    assert (text_of(fresh), fresh.header("cache-status")) == ("two", "askonce; fwd=request")
    assert text_of(asker.ask(url, body())) == "two"
    assert provider.count == 2


def test_no_store_keeps_nothing_but_gives_what_is_there(asker, provider, url):
    for _ in range(2):
        asker.ask(url, body(), {"Cache-Control": "no-store"})
    assert provider.count == 2
    assert list(asker.cache.store.keys()) == []
    asker.ask(url, body())
    assert asker.ask(url, body(), {"Cache-Control": "no-store"}).hit


@pytest.mark.parametrize("stream", [False, True])
def test_only_if_cached(asker, provider, url, stream):
    only = {"Cache-Control": "only-if-cached"}
    missing = asker.ask(url, body(stream=stream), only)
    assert missing.status == 504
    assert missing.header("x-should-retry") == "false"
    assert "only-if-cached" in missing.json()["error"]["message"]
    assert asker.ask(url, body(store=True), only).status == 504
    assert asker.ask(url, b"not JSON", only).status == 504
    assert provider.count == 0
    asker.ask(url, body())
    assert asker.ask(url, body(stream=stream), only).hit


def test_max_age(asker, provider, url, clock):
    provider.answer = texts("one", "two", "three")
    asker.ask(url, body())
    clock[0] += 10
    assert asker.ask(url, body(), {"Cache-Control": "max-age=10"}).hit
    clock[0] += 0.5
    older = asker.ask(url, body(), {"Cache-Control": "max-age=10"})
    assert (text_of(older), older.header("cache-status")) == ("two", "askonce; fwd=stale")
    assert text_of(asker.ask(url, body())) == "two"
    clock[0] += 1
    assert text_of(asker.ask(url, body(), {"Cache-Control": 'Max-Age="0"'})) == "three"


@pytest.mark.parametrize(
    "failure",
    [
        lambda asked: plain({"error": {}}, 500),
        lambda asked: plain({"error": {}}, 429),
        lambda asked: [servers.Close],
    ],
)
def test_stale_if_error(asker, provider, url, clock, failure):
    asker.ask(url, body(), {"Askonce-TTL": "10"})
    clock[0] += 100
    provider.answer = failure
    wish = {"Cache-Control": "stale-if-error=100"}
    for stream in (False, True):
        stale = asker.ask(url, body(stream=stream), wish)
        assert (stale.status, stale.header("cache-status")) == (200, "askonce; hit; ttl=-90")
        assert stale.header("age") == "100"
    assert provider.count >= 3
    try:
        assert asker.ask(url, body()).status >= 400
    except asker.library.TransportError:
        pass
    clock[0] += 10
    try:
        assert asker.ask(url, body(), wish).status >= 400
    except asker.library.TransportError:
        pass


def test_a_bad_request_is_no_reason_for_a_stale_answer(asker, provider, url, clock):
    asker.ask(url, body(), {"Askonce-TTL": "10"})
    clock[0] += 100
    provider.answer = lambda asked: plain({"error": {}}, 400)
    assert asker.ask(url, body(), {"Cache-Control": "stale-if-error=1000"}).status == 400


def test_cancelling_is_no_error_for_which_a_stale_answer_stands_in(maker, provider, url, clock):
    asker = maker("httpx2-async", "memory://")
    asker.ask(url, body(), {"Askonce-TTL": "10"})
    clock[0] += 100
    provider.answer = lambda asked: [Hang]

    async def run():
        wish = {"Cache-Control": "stale-if-error=1000"}
        asking = asyncio.ensure_future(asker.client.post(url, json=body(), headers=wish))
        while provider.count < 2:
            await asyncio.sleep(0.001)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asker.run(run())


def until(asker, condition):
    """Wait for what happens in the background."""

    def tried():
        if asker.is_async:
            asker.run(asyncio.sleep(0.001))
        return condition()

    askers.until(tried)


def test_stale_while_revalidate(asker, provider, url, clock):
    provider.answer = texts("one", "two")
    asker.ask(url, body(), {"Askonce-TTL": "10"})
    clock[0] += 20
    wish = {"Cache-Control": "stale-while-revalidate=100"}
    stale = asker.ask(url, body(), wish)
    assert (text_of(stale), stale.header("cache-status")) == ("one", "askonce; hit; ttl=-10")
    until(asker, lambda: asker.ask(url, body(), wish).header("age") == "0")
    assert text_of(asker.ask(url, body())) == "two"
    assert provider.count == 2


def test_one_refreshes_for_all(asker, provider, url, clock):
    asker.ask(url, body(), {"Askonce-TTL": "10"})
    clock[0] += 20
    opened = threading.Event()

    def held(asked):
        assert opened.wait(30)
        return plain(completion("two"))

    provider.answer = held
    wish = {"Cache-Control": "stale-while-revalidate=100"}
    for _ in range(5):
        assert text_of(asker.ask(url, body(), wish)) == "Hello"
    until(asker, lambda: provider.count == 2)
    opened.set()
    until(asker, lambda: text_of(asker.ask(url, body(), wish)) == "two")
    assert provider.count == 2


def test_a_refresh_that_fails_leaves_the_stale_answer(asker, provider, url, clock):
    asker.ask(url, body(), {"Askonce-TTL": "10"})
    clock[0] += 20
    # A connection that was open is tried twice.
    lost = [lambda asked: [servers.Close]] * 2
    provider.answer = Script(lost, rule=lambda asked: plain({}, 500))
    wish = {"Cache-Control": "stale-while-revalidate=100"}
    for count in (3, 4):
        assert asker.ask(url, body(), wish).status == 200
        until(asker, lambda: provider.count == count and not asker.cache.store.flights._flights)


def test_nothing_is_refreshed_that_may_not_be_asked_for_or_kept(asker, provider, url, clock):
    asker.ask(url, body(), {"Askonce-TTL": "10"})
    clock[0] += 20
    for wish in ("only-if-cached", "no-store"):
        wishes = {"Cache-Control": f"{wish}, stale-while-revalidate=100"}
        assert asker.ask(url, body(), wishes).status == 200
    assert not asker.cache.store.flights._flights
    assert provider.count == 1


def test_closing_cancels_what_is_refreshed(maker, provider, url, clock):
    asker = maker("httpx2-async", "memory://")
    asker.ask(url, body(), {"Askonce-TTL": "10"})
    clock[0] += 20
    provider.answer = lambda asked: [Hang]
    asker.ask(url, body(), {"Cache-Control": "stale-while-revalidate=100"})
    until(asker, lambda: provider.count == 2)
    asker.run(asker.client.aclose())
    assert not asker.cache.store.flights._flights


def test_samples_are_apart_and_each_is_kept(asker, provider, url):
    provider.answer = texts("zero", "one", "two")
    for _ in range(2):
        assert [
            text_of(asker.ask(url, body(), {} if number == 0 else {"Askonce-Sample": str(number)}))
            for number in range(3)
        ] == ["zero", "one", "two"]
    assert text_of(asker.ask(url, body(), {"Askonce-Sample": "0"})) == "zero"


def test_tags_retire_at_once(asker, provider, url):
    provider.answer = texts(*"abcdefgh")
    cache = asker.cache
    tagged = {"Askonce-Tags": "docs, v1"}
    asker.ask(url, body("1"), tagged)
    asker.ask(url, body("2"), {"Askonce-Tags": "v1"})
    asker.ask(url, body("3"))
    assert [asker.ask(url, body(name)).hit for name in "123"] == [True] * 3
    cache.retire("docs")
    assert [asker.ask(url, body(name), tagged).hit for name in "123"] == [False, True, True]
    asyncio.run(cache.aretire("v1", "other"))
    assert [asker.ask(url, body(name)).hit for name in "123"] == [False, False, True]
    cache.retire("docs", namespace="elsewhere")
    assert asker.ask(url, body("1")).hit


def test_tags_of_several_headers_add_up(asker, provider, url):
    headers = [("askonce-tags", "a"), ("askonce-tags", "b, c")]
    request = asker.client.build_request("POST", url, json=body(), headers=headers)
    asker.send(request)
    (key,) = [key for key in asker.cache.store.keys() if "/tag/" not in key]
    assert {key.rpartition("/")[2] for key in asker.cache.store.keys() if "/tag/" in key} == set("abc")
    asker.cache.retire("a")
    asker.ask(url, body())
    assert provider.count == 2


def test_what_was_asked_for_before_its_tag_was_retired_is_retired_too(asker, provider, url):
    def retiring(asked):
        asker.cache.retire("docs")
        return plain(completion("old"))

    provider.answer = Script([retiring])
    assert text_of(asker.ask(url, body(), {"Askonce-Tags": "docs"})) == "old"
    assert text_of(asker.ask(url, body())) == "Hello"


def test_a_tag_whose_epoch_got_lost_retires_its_entries(asker, provider, url):
    asker.ask(url, body(), {"Askonce-Tags": "docs"})
    store = asker.cache.store
    store.delete([key for key in store.keys() if "/tag/" in key])
    asker.ask(url, body())
    assert provider.count == 2


def test_random_answers_are_kept_unless_refused(kind, maker, provider, url):
    asker = maker(kind, "memory://")
    certain = [body(temperature=0), body(seed=1, temperature=1)]
    chancy = [body(temperature=0.1), {**body(), "temperature": None}]
    for request in [*certain, *chancy] * 2:
        asker.ask(url, request)
    assert provider.count == 4
    strict = maker(kind, "memory://", random=False)
    for request in [*certain, *chancy] * 2:
        reply = strict.ask(url, request)
    assert provider.count == 4 + 2 + 4
    assert "random" in reply.header("cache-status")


@pytest.mark.parametrize("ending", ["length", "content_filter"])
def test_shortfalls_are_kept_if_asked_for(kind, maker, provider, url, ending):
    provider.answer = lambda asked: (
        chunked(events("Hel", reason=ending))
        if asked.json().get("stream")
        else plain(completion(reason=ending))
    )
    for stream in (False, True):
        asker = maker(kind, "memory://")
        asker.ask(url, body(stream=stream))
        with askonce.policy(keep={ending}):
            asker.ask(url, body(stream=stream))
        before = provider.count
        assert asker.ask(url, body(stream=not stream)).hit
        of_cache = maker(kind, "memory://", keep=[ending])
        of_cache.ask(url, body(stream=stream))
        assert of_cache.ask(url, body(stream=stream)).hit
        assert provider.count == before + 1


def test_keep_decides_last(kind, maker, provider, url):
    seen = []

    def keep(reply):
        seen.append(reply)
        return "good" in reply["choices"][0]["message"]["content"]

    provider.answer = texts("bad", "good")
    asker = maker(kind, "memory://", keep=keep)
    assert [text_of(asker.ask(url, body())) for _ in range(3)] == ["bad", "good", "good"]
    assert [reply["choices"][0]["message"]["content"] for reply in seen] == ["bad", "good"]


def test_keep_sees_a_stream_joined(kind, maker, provider, url):
    seen = []
    asker = maker(kind, "memory://", keep=lambda reply: seen.append(reply) or True)
    asker.ask(url, body(stream=True))
    assert seen[0]["object"] == "chat.completion"
    assert seen[0]["choices"][0]["message"]["content"] == "Hello"


def test_keep_that_fails_breaks_nothing(kind, maker, provider, url):
    told = []
    asker = maker(kind, "memory://", keep=lambda reply: reply["no such field"], observe=told.append)
    assert text_of(asker.ask(url, body())) == "Hello"
    assert "KeyError" in told[-1].reason
    asker.ask(url, body())
    assert provider.count == 2


UNREADABLE = {
    "askonce-ttl": ["0", "-1", "soon", "nan", "inf", "", "1e999"],
    "askonce-sample": ["-1", "1.5", "x", "", "1" * 5000],
    "askonce-what": ["1"],
    "cache-control": ["max-age=soon", "max-age", "stale-if-error=-1", "max-age=nan"],
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, vs in UNREADABLE.items() for v in vs])
def test_headers_that_cannot_be_read_are_refused_and_not_retried(asker, provider, url, name, value):
    reply = asker.ask(url, body(), {name: value})
    assert reply.status == 400
    assert reply.header("x-should-retry") == "false"
    assert reply.json()["error"]["message"].startswith("askonce: ")
    assert provider.count == 0


def test_other_directives_are_passed_over(asker, provider, url):
    asker.ask(url, body(), {"Cache-Control": "no-transform, max-stale=5, , x=y"})
    assert asker.ask(url, body()).hit


def test_blocks_of_policy_nest_and_headers_win(asker, provider, url):
    with askonce.policy(namespace="a", sample=1):
        asker.ask(url, body())
        with askonce.policy(sample=2):
            asker.ask(url, body())
            assert asker.ask(url, body(), {"Askonce-Sample": "1"}).hit
        assert asker.ask(url, body()).hit
        assert provider.count == 2
    assert not asker.ask(url, body()).hit
    assert asker.ask(url, body(), {"Askonce-Namespace": "a", "Askonce-Sample": "2"}).hit


def test_the_defaults_of_a_cache(kind, maker, provider, url, clock):
    asker = maker(kind, "memory://", namespace="n", ttl=5)
    asker.ask(url, body())
    assert all(key.startswith("n/") for key in asker.cache.store.keys())
    clock[0] += 5
    with askonce.policy(ttl=None):
        asker.ask(url, body())
    clock[0] += 1e9
    assert asker.ask(url, body()).hit


def test_tasks_take_the_block_they_were_started_in_with_them(maker, provider, url):
    asker = maker("httpx2-async", "memory://")

    async def ask():
        await asyncio.sleep(0)
        return (await asker.client.post(url, json=body())).headers["cache-status"]

    async def run():
        with askonce.policy(sample=1):
            started = asyncio.ensure_future(ask())
        with askonce.policy(only_if_cached=True):
            others = [asyncio.ensure_future(ask()) for _ in range(2)]
        return await asyncio.gather(started, *others, ask())

    status = asker.run(run())
    assert status[0] == status[3] == "askonce; fwd=miss"
    assert status[1] == status[2] == "askonce; detail=only-if-cached"
    assert provider.count == 2


def test_threads_begin_without_a_block_unless_they_are_given_it(maker, provider, url):
    asker = maker("httpx2", "memory://")
    found = {}

    def ask(name):
        found[name] = asker.ask(url, body()).status

    with askonce.policy(only_if_cached=True):
        context = contextvars.copy_context()
        threads = [
            threading.Thread(target=context.run, args=(ask, "given")),
            threading.Thread(target=ask, args=("plain",)),
        ]
        for thread in threads:
            thread.start()
            thread.join()
    assert found == {"given": 504, "plain": 200}
    assert provider.count == 1


@pytest.mark.parametrize(
    "wishes",
    [
        {"unknown": 1},
        {"ttl": 0},
        {"ttl": "5"},
        {"tags": "docs"},
        {"tags": [1]},
        {"tags": None},
        {"sample": -1},
        {"sample": 1.5},
        {"sample": True},
        {"max_age": -1},
        {"max_age": float("nan")},
        {"stale_if_error": "x"},
        {"keep": {"error"}},
        {"keep": "length"},
        {"namespace": None},
    ],
)
def test_policies_that_cannot_be_used_say_so(wishes):
    with pytest.raises(askonce.InputError), askonce.policy(**wishes):
        pass
    with pytest.raises(askonce.InputError):
        askonce.HTTPCache("memory://", **wishes)


def test_forget_one_request(asker, provider, url):
    provider.answer = texts("one", "two", "three")
    request = asker.client.build_request("POST", url, json=body(), headers={"askonce-tags": "a"})
    asker.send(request)
    asker.ask(url, body("other"))
    assert asker.cache.forget(request) == 1
    assert asker.cache.forget(request) == 0
    assert text_of(asker.ask(url, body())) == "three"
    assert asker.ask(url, body("other")).hit


def test_forget_by_parts(asker, provider, url):
    headers = {"X-Odd": "1", "Askonce-Namespace": "n", "Authorization": "Bearer k"}
    asker.ask(url, body(stream=True), headers)
    cache = asker.cache
    assert cache.forget(url=url, headers=headers, body=body("other")) == 0
    assert cache.forget(url=url, body=body()) == 0
    with askonce.policy(sample=1):
        assert cache.forget({"url": url, "headers": headers, "body": body()}) == 0
    assert asyncio.run(cache.aforget(url=url, headers={**headers, "authorization": "x"}, body=body())) == 1


@pytest.mark.parametrize(
    "parts", [{"url": "https://h/v1/models", "method": "GET"}, {"url": "https://h/v1/messages", "body": "no"}]
)
def test_forgetting_what_is_never_kept_says_so(parts):
    with pytest.raises(askonce.InputError, match="nothing to forget"):
        askonce.HTTPCache("memory://").forget(**parts)


def test_the_cache_of_a_client():
    cache = askonce.HTTPCache("memory://")
    with askonce.http_client(cache) as client:
        assert askonce.cache_of(client) is cache
    with askonce.http_client("memory://") as client:
        assert isinstance(askonce.cache_of(client), askonce.HTTPCache)
    with pytest.raises(askonce.InputError, match="has no cache of ours"):
        askonce.cache_of(object())
    with pytest.raises(askonce.InputError, match="its own rules"):
        askonce.http_client(cache, ttl=5)
    with pytest.raises(askonce.InputError, match="httpx3"):
        askonce.http_client(cache, library="httpx3")
