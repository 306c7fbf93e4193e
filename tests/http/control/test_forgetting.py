"""Answers that are forgotten by the request, or by parts of it."""

import asyncio

import pytest

import askonce
from tests.http.askers import body
from tests.http.control.words import text_of, texts


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
