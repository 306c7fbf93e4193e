"""Who shares entries with whom, and that no secret is ever kept."""

from concurrent.futures import ThreadPoolExecutor

import pytest

import askonce
from tests.http import server as servers
from tests.http.askers import CHAT, body, make
from tests.http.server import plain

SECRETS = {
    "Authorization": "Bearer sk-secret-1",
    "X-Api-Key": "sk-secret-2",
    "Api-Key": "sk-secret-3",
    "Cookie": "session=secret-4",
    "X-Goog-Api-Key": "secret-5",
    "OpenAI-Organization": "org-secret-6",
    "Ocp-Apim-Subscription-Key": "secret-7",
    "Helicone-Auth": "Bearer secret-8",
    "X-Amz-Security-Token": "secret-9",
    "Proxy-Authorization": "Basic secret-10",
}
QUERY = "?key=secret-11&api_key=secret-12"


@pytest.mark.parametrize("isolate", [None, "credential"])
@pytest.mark.parametrize("scheme", ["sqlite", "file", "lmdb"])
def test_no_secret_is_written_anywhere(tmp_path, scheme, isolate):
    def answer(asked):
        given = (("Set-Cookie", "id=secret-13"), ("X-Account", "secret-14"), ("X-Request-Id", "r1"))
        if asked.target.startswith("/v1/embeddings"):
            data = [{"object": "embedding", "index": 0, "embedding": [1.0, 2.0]}]
            return plain({"object": "list", "model": "m", "data": data}, 200, *given)
        return plain(servers.completion(), 200, *given)

    told = []
    with servers.running(answer) as provider:
        asker = make("httpx2", f"{scheme}:///{tmp_path}/cache", isolate=isolate, observe=told.append)
        for _ in range(2):
            reply = asker.ask(provider.address + CHAT + QUERY, body("prompt-text"), SECRETS)
            asker.ask(provider.address + "/v1/embeddings" + QUERY, {"model": "m", "input": "a"}, SECRETS)
        asker.close()
        assert provider.count == 2
        assert reply.header("set-cookie") is None
        assert reply.header("x-request-id") == "r1"
        sent = {name.lower() for name, _ in provider.asked[0].headers}
        assert {name.lower() for name in SECRETS} <= sent
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    written = b"".join(file.read_bytes() + bytes(file.relative_to(tmp_path)) for file in files)
    assert b"Hello" in written
    assert b"secret" not in written
    assert b"prompt-text" not in written
    assert "secret" not in repr(told)


def test_all_credentials_share_entries_in_a_program(asker, provider, url):
    for number in range(3):
        for name in SECRETS:
            asker.ask(url + f"?key={number}", body(), {name: f"Bearer {number}"})
    assert provider.count == 1


@pytest.mark.parametrize("name", [*SECRETS, "?key"])
def test_credentials_are_apart_if_asked_for(kind, maker, provider, url, name):
    asker = maker(kind, "memory://", isolate="credential")

    def ask(value):
        if name == "?key":
            return asker.ask(f"{url}?key={value}", body())
        return asker.ask(url, body(), {name: value})

    assert [ask(value).hit for value in ["a", "b", "a", "b", ""]] == [False, False, True, True, False]


def test_credentials_are_told_apart_alike_wherever_the_store_is_opened(provider, url, tmp_path):
    for _ in range(2):
        asker = make("httpx2", f"sqlite:///{tmp_path}/cache.db", isolate="credential")
        asker.ask(url, body(), {"authorization": "Bearer a"})
        asker.close()
    assert provider.count == 1


def test_stores_opened_at_once_agree_on_one_key(tmp_path):
    url = f"sqlite:///{tmp_path}/cache.db"

    def key(_):
        cache = askonce.HTTPCache(url, isolate="credential")
        cache.close()
        return cache.rules.isolation_key

    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(key, range(16)))
    assert len(set(keys)) == 1
    assert len(keys[0]) == 32


def test_the_digests_of_credentials_are_of_no_use_elsewhere(tmp_path):
    """Two stores name the same credential differently."""
    keys = set()
    for number in range(2):
        cache = askonce.HTTPCache(f"sqlite:///{tmp_path}/{number}.db", isolate="credential")
        request = cache.forget(url="https://h/v1/chat/completions", body=body())
        assert request == 0
        keys.add(cache.rules.isolation_key)
        cache.close()
    assert len(keys) == 2


def test_clearing_a_namespace_leaves_the_key_alone(tmp_path):
    cache = askonce.HTTPCache(f"sqlite:///{tmp_path}/cache.db", isolate="credential", namespace="askonce")
    cache.store.clear("askonce/")
    cache.store.clear("_/")
    again = askonce.HTTPCache(cache.store, isolate="credential")
    assert again.rules.isolation_key == cache.rules.isolation_key
    cache.close()


def test_a_namespace_is_a_wall(asker, provider, url):
    names = ["", "a", "A", "a/b", "b", "ä"]
    for name in names * 2:
        with askonce.policy(namespace=name):
            reply = asker.ask(url, body())
    assert provider.count == len(names)
    assert reply.hit
    prefixes = {key.partition("/")[0] for key in asker.cache.store.keys()}
    assert len(prefixes) == len(names)


def test_tags_do_not_reach_over_the_wall(asker, provider, url):
    for name in ("a", "b"):
        with askonce.policy(namespace=name, tags=["t"]):
            asker.ask(url, body())
    asker.cache.retire("t", namespace="a")
    for name, hit in (("a", False), ("b", True)):
        with askonce.policy(namespace=name):
            assert asker.ask(url, body()).hit is hit


def test_isolation_is_by_credential_or_not_at_all():
    with pytest.raises(askonce.InputError, match="isolate"):
        askonce.HTTPCache("memory://", isolate="user")
