"""What is recorded, and what of it is replayed."""

import json

from tests.testing.plugin.suites import ONE, run
from tests.testing.provider import SECRETS

pytest_plugins = ["pytester"]


def test_no_secret_is_recorded(suite, server):
    code = """
        @pytest.mark.askonce(errors=True)
        def test_one(askonce_client):
            secret = {"openai-organization": "org-secret", "openai-project": "proj-secret"}
            ask(askonce_client, "one", secret)
            ask(askonce_client, "one", secret, stream=True)
            ask(askonce_client, "fail", secret)
            askonce_client.post(URL + "/chat/completions?api_key=sk-secret", json=body("two"))
            askonce_client.post(URL + "/embeddings", json={"model": "m", "input": "x"})
    """
    run(suite, "--askonce=record", code=code, passed=1)
    assert len(suite.files) == 4
    recorded = "".join(file.read_text() for file in suite.files)
    assert not any(secret in recorded for secret in SECRETS)


def test_a_cassette_is_for_people(suite, server):
    run(suite, "--askonce=auto", code=ONE, passed=1)
    (file,) = suite.files
    assert file.name.startswith("one-")
    text = file.read_text()
    assert text.endswith("}\n")
    recorded = json.loads(text)
    assert recorded["request"] == {
        "method": "POST",
        "url": f"{server.url}/chat/completions",
        "headers": {},
        "body": {"messages": [{"content": "one", "role": "user"}], "model": "m"},
    }
    assert recorded["answer"]["json"]["choices"][0]["message"]["content"] == "one 1"
    assert recorded["meta"]["usage"]["output"] == 2
    assert recorded["meta"]["headers"] == {"x-request-id": "request-1"}


def test_an_edited_answer_is_honoured(suite):
    run(suite, "--askonce=auto", code=ONE, passed=1)
    (file,) = suite.files
    file.write_text(file.read_text().replace("one 1", "edited"))
    run(suite, code=ONE.replace("one 1", "edited"), passed=1)


def test_an_edited_request_is_honoured(suite):
    run(suite, "--askonce=auto", code=ONE, passed=1)
    (file,) = suite.files
    file.write_text(file.read_text().replace('"content": "one"', '"content": "two"'))
    run(suite, code=ONE.replace('"one"', '"two"'), passed=1)


def test_replay_gives_the_very_bytes(suite, pytester):
    code = """
        def test_one(askonce_client):
            for name in ("one", "odd"):
                for stream in (False, True):
                    content = ask(askonce_client, name, stream=stream, n=1 + stream).content
                    with open(f"{name}{stream}", "ab") as file:
                        file.write(content + b"|")
    """
    run(suite, "--askonce=auto", code=code, passed=1)
    run(suite, passed=1)
    for name in ("oneFalse", "oneTrue", "oddFalse", "oddTrue"):
        first, second, _ = (pytester.path / name).read_bytes().split(b"|")
        assert first == second
        assert first


def test_streams_and_plain_answers_share_a_cassette(suite):
    code = """
        def test_one(askonce_client):
            assert said(ask(askonce_client, "one")) == "one 1"
            assert "data: [DONE]" in ask(askonce_client, "one", stream=True).text
    """
    run(suite, "--askonce=auto", code=code, passed=1)
    assert len(suite.files) == 1
    run(suite, passed=1)


def test_samples_and_namespaces_are_cassettes_of_their_own(suite, server):
    code = """
        import askonce

        def test_one(askonce_client):
            answers = [said(ask(askonce_client, "one"))]
            answers += [said(ask(askonce_client, "one", {"Askonce-Sample": "1"}))]
            with askonce.policy(namespace="team", sample=2):
                answers += [said(ask(askonce_client, "one"))]
            assert answers == ["one 1", "one 2", "one 3"]
    """
    run(suite, "--askonce=record", code=code, passed=1)
    assert len(suite.files) == 3
    run(suite, passed=1)
    assert len(server.asked) == 3


def test_freshness_means_nothing_to_a_cassette(suite, server):
    code = """
        def test_one(askonce_client):
            control = {"Cache-Control": "no-cache, no-store, max-age=0", "Askonce-TTL": "1"}
            assert said(ask(askonce_client, "one", control)) == "one 1"
    """
    run(suite, "--askonce=auto", code=code, passed=1)
    run(suite, passed=1)
    assert len(server.asked) == 1


def test_errors_are_recorded_if_asked_for(suite, server):
    code = """
        @pytest.mark.askonce(errors=True)
        def test_one(askonce_client):
            response = ask(askonce_client, "fail")
            assert response.status_code == 429
            assert response.json() == {"error": {"message": "too many: 1"}}
            assert response.headers["content-type"] == "application/json"
    """
    run(suite, "--askonce=auto", code=code, passed=1)
    assert json.loads(suite.files[0].read_text())["answer"]["status"] == 429
    run(suite, passed=1)
    assert len(server.asked) == 1


def test_each_input_of_a_batch_has_a_cassette(suite, server):
    code = """
        def embed(client, *texts):
            reply = client.post(URL + "/embeddings", json={"model": "m", "input": list(texts)})
            return [item["embedding"] for item in reply.json()["data"]]

        def test_one(askonce_client):
            assert embed(askonce_client, "a", "bb", "a") == [[1, 0.1, 1], [2, 0.1, 1], [1, 0.1, 1]]

        def test_two(askonce_client):
            assert embed(askonce_client, "bb", "a") == [[2, 0.1, 1], [1, 0.1, 1]]
    """
    run(suite, "--askonce=auto", code=code, passed=2)
    assert [file.name.split("-")[0] for file in suite.files] == ["a", "bb"]
    run(suite, passed=2)
    assert len(server.asked) == 1
    result = run(suite, code=code + "        embed(askonce_client, 'a', 'ccc')\n", passed=1, failed=1)
    result.stdout.fnmatch_lines(['*"input": *ccc*'])


def test_both_colours_and_both_libraries_share_cassettes(suite, server):
    code = """
        LIBRARIES = [pytest.param(name, marks=pytest.mark.askonce(library=name))
                     for name in ("httpx2", "httpx")]

        @pytest.mark.parametrize("name", LIBRARIES)
        def test_sync(askonce_client, name):
            assert type(askonce_client).__module__.startswith(name)
            assert said(ask(askonce_client, "one")) == "one 1"

        @pytest.mark.parametrize("name", LIBRARIES)
        async def test_async(askonce_async_client, name):
            assert type(askonce_async_client).__module__.startswith(name)
            assert said(await ask(askonce_async_client, "one")) == "one 1"
            text = (await ask(askonce_async_client, "two", stream=True)).text
            assert "data: [DONE]" in text

        @pytest.mark.askonce(errors=True)
        async def test_error(askonce_async_client):
            assert (await ask(askonce_async_client, "fail")).status_code == 429
    """
    run(suite, "--askonce=auto", code=code, passed=5)
    assert len(server.asked) == 3
    run(suite, passed=5)


def test_a_store_for_whatever_asks_through_one(suite):
    code = """
        import askonce
        from askonce.integrations.langchain import StoreCache
        from langchain_core.language_models import FakeListChatModel

        def test_embeddings(askonce_store):
            made = []
            def embed(texts):
                made.append(texts)
                return [[1.0, 2.0] for _ in texts]
            cache = askonce.EmbeddingCache(embed, model="m", store=askonce_store)
            assert cache.embed(["a", "b"]).tolist() == [[1, 2], [1, 2]]
            assert EXPECTED is None or len(made) == EXPECTED

        def test_langchain(askonce_store):
            model = FakeListChatModel(responses=["hi"], cache=StoreCache(askonce_store))
            assert model.invoke("hello").content == "hi"

        def test_langchain_again(askonce_store):
            model = FakeListChatModel(responses=["hi"], cache=StoreCache(askonce_store))
            assert model.invoke("hello").content == "hi"
    """
    run(suite, "--askonce=auto", code=code.replace("EXPECTED", "1"), passed=3)
    assert [file.name.split("-")[0] for file in suite.files] == ["a", "b", "hello"]
    run(suite, code=code.replace("EXPECTED", "0"), passed=3)
    changed = code.replace('"hello"', '"hallo"').replace('["a", "b"]', '["a", "c"]')
    result = run(suite, code=changed.replace("EXPECTED", "None"), failed=3)
    result.stdout.fnmatch_lines(["*which differs first in", "*  text", '*asked:*"c"'])


def test_a_wrapped_model_of_langchain_replays_its_streams(suite):
    code = """
        from askonce.integrations.langchain import cached
        from langchain_core.language_models import FakeListChatModel

        def test_invoke(askonce_store):
            model = cached(FakeListChatModel(responses=["hi"]), store=askonce_store)
            assert model.invoke("hello").content == "hi"

        async def test_astream(askonce_store):
            model = cached(FakeListChatModel(responses=["hi"]), store=askonce_store)
            assert [chunk.text async for chunk in model.astream("hello you")][:2] == ["h", "i"]
    """
    run(suite, "--askonce=auto", code=code, passed=2)
    result = run(suite, passed=2)
    result.stdout.fnmatch_lines(["0 recorded, 2 replayed"])
    run(suite, code=code.replace('"hello', '"hallo'), failed=2)


def test_a_cache_for_transports_of_ones_own(suite, server):
    code = """
        import askonce, httpx2

        def test_one(askonce_cache):
            with httpx2.Client(transport=askonce.transport(askonce_cache)) as client:
                assert said(ask(client, "one")) == "one 1"
    """
    run(suite, "--askonce=auto", code=code, passed=1)
    run(suite, passed=1)
    assert len(server.asked) == 1


def test_streams_replay_at_once_or_at_their_pace(suite):
    code = """
        import time

        def stream(client):
            return ask(client, "one", stream=True).content

        @pytest.mark.askonce(timing=True)
        def test_slow(askonce_client, monkeypatch):
            pauses = []
            monkeypatch.setattr(time, "sleep", pauses.append)
            stream(askonce_client)
            assert REPLAYS is (len(pauses) == 7)

        @pytest.mark.askonce(timing=True)
        async def test_slow_async(askonce_async_client, monkeypatch):
            pauses = []
            async def sleep(seconds): pauses.append(seconds)
            monkeypatch.setattr("askonce.testing.cassette_transports.asyncio.sleep", sleep)
            await ask(askonce_async_client, "one", stream=True)
            assert len(pauses) == 7

        def test_fast(askonce_client, monkeypatch):
            pauses = []
            monkeypatch.setattr(time, "sleep", pauses.append)
            stream(askonce_client)
            assert pauses == []
    """
    run(suite, "--askonce=auto", code=code.replace("REPLAYS", "False"), passed=3)
    assert len(json.loads(suite.files[0].read_text())["meta"]["delays"]) == 7
    run(suite, code=code.replace("REPLAYS", "True"), passed=3)
