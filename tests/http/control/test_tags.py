"""Samples, which are apart, and tags, which retire at once."""

import asyncio

from tests.http.askers import body
from tests.http.control.words import text_of, texts
from tests.http.server import Script, completion, plain


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
