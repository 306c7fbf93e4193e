"""The plugin, as pytest loads it: modes, failures, reports."""

import json
import socket
import subprocess
import sys
import textwrap

# Imported here, once: a run of pytest in this process forgets what it imports.
import httpx
import httpx2
import hypothesis.strategies
import langchain_core.language_models
import pytest

import askonce.integrations.langchain
from tests.testing.provider import SECRETS, provider

pytest_plugins = ["pytester"]

HEAD = """
    import pytest
    URL = {url!r}
    HEADERS = {{"authorization": "Bearer sk-secret", "cookie": "session=secret"}}

    def body(text, **more):
        return {{"model": "m", "messages": [{{"role": "user", "content": text}}], **more}}

    def ask(client, text, headers=(), **more):
        headers = {{**HEADERS, **dict(headers)}}
        return client.post(URL + "/chat/completions", json=body(text, **more), headers=headers)

    def said(response):
        return response.json()["choices"][0]["message"]["content"]
"""
ONE = """
    def test_one(askonce_client):
        assert said(ask(askonce_client, "one")) == "one 1"
"""


@pytest.fixture
def server():
    with provider() as server:
        yield server


@pytest.fixture
def suite(pytester, server):
    """Write a test module; give a function that runs it with options."""

    pytester.makeini(
        "[pytest]\naddopts = --import-mode=importlib\nasyncio_mode = auto\n"
        "asyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n"
    )

    class Suite:
        folder = pytester.path / "cassettes" / "test_it"

        def write(self, code, name="test_it"):
            text = textwrap.dedent(HEAD.format(url=server.url)) + textwrap.dedent(code)
            (pytester.path / f"{name}.py").write_text(text)

        def run(self, *options):
            return pytester.runpytest_inprocess("-p", "no:cacheprovider", *options)

        @property
        def files(self):
            return sorted(self.folder.glob("*"))

    return Suite()


def run(suite, *options, code=None, **outcomes):
    if code is not None:
        suite.write(code)
    result = suite.run(*options)
    result.assert_outcomes(**outcomes)
    return result


# Modes


def test_nothing_is_asked_unless_it_is_asked_for(suite, server):
    result = run(suite, code=ONE, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*no cassette answers this request*",
            f"*POST {server.url}/chat/completions*",
            "*There are no cassettes in cassettes/test_it*",
            "*pytest --askonce=auto 'test_it.py::test_one'*",
        ]
    )
    assert server.asked == []
    assert not suite.folder.exists()


@pytest.mark.parametrize("mode", ["auto", "record"])
def test_records_once_and_replays_without_a_socket(suite, server, mode):
    result = run(suite, f"--askonce={mode}", code=ONE, passed=1)
    result.stdout.fnmatch_lines(["*1 recorded, 0 replayed*"])
    assert len(suite.files) == 1
    server.shutdown()
    result = run(suite, "--askonce-no-network", passed=1)
    result.stdout.fnmatch_lines(["*0 recorded, 1 replayed*"])
    assert len(server.asked) == 1


def test_auto_records_what_is_missing_only(suite, server):
    run(suite, "--askonce=auto", code=ONE, passed=1)
    more = ONE + '    def test_two(askonce_client): assert said(ask(askonce_client, "two"))\n'
    run(suite, "--askonce=auto", code=more, passed=2)
    assert [body["messages"][0]["content"] for body in server.asked] == ["one", "two"]


def test_record_asks_again_and_writes_over(suite, server):
    code = """
        def test_one(askonce_client):
            first = said(ask(askonce_client, "one"))
            assert said(ask(askonce_client, "one")) == first
    """
    run(suite, "--askonce=record", code=code, passed=1)
    (file,) = suite.files
    renamed = file.rename(file.with_name("renamed.json"))
    before = renamed.read_text()
    run(suite, "--askonce=record", passed=1)
    assert len(server.asked) == 2
    assert suite.files == [renamed]
    assert renamed.read_text().replace("one 2", "one 1").splitlines()[:20] == before.splitlines()[:20]


def test_off_asks_every_time_and_writes_nothing(suite, server):
    code = """
        def test_one(askonce_client):
            assert said(ask(askonce_client, "one")) != said(ask(askonce_client, "one"))
    """
    run(suite, "--askonce=off", code=code, passed=1)
    assert len(server.asked) == 2
    assert not suite.folder.exists()


def test_the_configuration_says_how(suite, server, pytester):
    ini = pytester.path / "tox.ini"
    ini.write_text(ini.read_text() + "\naskonce = auto\n")
    run(suite, code=ONE, passed=1)
    assert len(server.asked) == 1


def test_a_marker_says_how_for_its_tests(suite, server):
    marked = "    @pytest.mark.askonce(mode='auto', cassette='shared')\n" + ONE
    run(suite, code=marked, passed=1)
    assert len(list(suite.folder.with_name("shared").glob("*.json"))) == 1


def test_a_marker_wins_over_the_command_line(suite, server):
    marked = "    @pytest.mark.askonce(mode='replay')\n" + ONE
    run(suite, "--askonce=record", code=marked, failed=1)
    assert server.asked == []


def test_a_run_that_is_to_ask_nobody_asks_nobody(suite, server):
    marked = "    @pytest.mark.askonce(mode='record')\n" + ONE
    run(suite, "--askonce=replay", code=marked, failed=1)
    assert server.asked == []


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("mode='rec'", "*mode is 'rec'; there are replay, record, auto, off*"),
        ("'replay'", "*the marker askonce takes names*"),
        ("folder='x'", "*not folder*"),
        ("library='requests'", "*library is 'requests'; there are httpx2, httpx*"),
    ],
)
def test_a_marker_that_cannot_be_used(suite, marker, message):
    suite.write(f"    @pytest.mark.askonce({marker})\n" + ONE)
    result = suite.run()
    result.stderr.fnmatch_lines([message])
    assert result.ret == pytest.ExitCode.USAGE_ERROR


def test_a_setting_that_cannot_be_used(suite, pytester):
    ini = pytester.path / "tox.ini"
    ini.write_text(ini.read_text() + "\naskonce = always\n")
    suite.write(ONE)
    result = suite.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*askonce is 'always'*"])


# Failures


def test_an_unknown_request_is_told_with_the_nearest_and_where_they_differ(suite):
    code = """
        def test_one(askonce_client):
            ask(askonce_client, "Name a colour.", temperature=0)
        def test_two(askonce_client):
            ask(askonce_client, "Tell me a long story of a king and his seven daughters.")
    """
    run(suite, "--askonce=auto", code=code, passed=2)
    changed = code.replace("a colour", "one colour").replace("=0", "=0.5")
    result = run(suite, code=changed, passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*The nearest is *name-a-colour-*.json, which differs first in",
            "*body.messages?0?.content",
            '*recorded: "Name a colour."',
            '*asked:    "Name one colour."',
            "*and in body.temperature",
        ]
    )


def test_a_failure_cannot_be_swallowed(suite):
    code = """
        import contextlib

        def test_exception(askonce_client):
            with contextlib.suppress(Exception):
                ask(askonce_client, "one")

        def test_base_exception(askonce_client):
            with contextlib.suppress(BaseException):
                ask(askonce_client, "one")
    """
    run(suite, code=code, failed=2)


def test_what_is_no_request_for_an_answer_cannot_be_replayed(suite, server):
    code = """
        def test_models(askonce_client):
            askonce_client.get(URL + "/models?key=sk-secret")

        def test_state(askonce_client):
            ask(askonce_client, "one", store=True)
    """
    result = run(suite, code=code, failed=2)
    result.stdout.fnmatch_lines(
        [
            "*cannot be replayed: the request is neither for an answer nor for embeddings*",
            "*cannot be replayed: `store` asks the provider*",
        ]
    )
    assert not any(secret in result.stdout.str() for secret in SECRETS[1:])


def test_a_damaged_cassette_is_told(suite):
    run(suite, "--askonce=auto", code=ONE, passed=1)
    (file,) = suite.files
    file.write_text(file.read_text()[:-20])
    result = run(suite, errors=1)
    result.stdout.fnmatch_lines(["*the cassette*is damaged*Mend it or delete it*"])


def test_what_is_not_recorded_is_told(suite):
    code = """
        def test_one(askonce_client):
            assert ask(askonce_client, "fail").status_code == 429
            ask(askonce_client, "one", store=True)
    """
    result = run(suite, "--askonce=auto", code=code, passed=1)
    result.stdout.fnmatch_lines(["not recorded in test_it.py::test_one: *429*"])


# What is recorded


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


# Reports


TWO = ONE + """
    def test_two(askonce_client):
        assert said(ask(askonce_client, "two")) == "two 2"
"""


def test_unused_cassettes_are_told_and_deleted_if_asked_for(suite):
    run(suite, "--askonce=auto", code=TWO, passed=2)
    result = run(suite, code=ONE, passed=1)
    result.stdout.fnmatch_lines(["1 unused cassette (*", "  cassettes/test_it/two-*.json"])
    assert len(suite.files) == 2
    result = run(suite, "--askonce-prune", passed=1)
    result.stdout.fnmatch_lines(["deleted 1 unused cassette:"])
    assert [file.name.split("-")[0] for file in suite.files] == ["one"]
    assert "unused cassette" not in run(suite, passed=1).stdout.str()


@pytest.mark.parametrize(
    ("options", "outcomes"),
    [
        (["-k", "one"], {"passed": 1, "deselected": 1}),
        (["test_it.py::test_one"], {"passed": 1}),
        (["--deselect", "test_it.py::test_two"], {"passed": 1, "deselected": 1}),
    ],
)
def test_a_part_of_the_tests_makes_nothing_unused(suite, options, outcomes):
    run(suite, "--askonce=auto", code=TWO, passed=2)
    result = run(suite, "--askonce-prune", *options, **outcomes)
    assert "unused cassette" not in result.stdout.str()
    assert len(suite.files) == 2


@pytest.mark.parametrize("body", ["assert False", "pytest.skip('later')"])
def test_a_test_that_did_not_get_there_makes_nothing_unused(suite, body):
    run(suite, "--askonce=auto", code=TWO, passed=2)
    code = ONE + f"\n    def test_two(askonce_client):\n        {body}\n"
    outcomes = {"failed": 1} if "False" in body else {"skipped": 1}
    result = run(suite, "--askonce-prune", code=code, passed=1, **outcomes)
    assert "unused cassette" not in result.stdout.str()


def test_modules_do_not_count_each_others_tests(suite, pytester):
    other = TWO.replace(" 1", " 3").replace(" 2", " 4")
    suite.write(TWO)
    suite.write(other, name="test_other")
    run(suite, "--askonce=auto", passed=4)
    suite.write(other.partition("    def test_two")[0], name="test_other")
    result = run(suite, passed=3)
    result.stdout.fnmatch_lines(["1 unused*", "  cassettes/test_other/two-*"])


def test_workers_of_xdist_do_not_fight(suite, server, pytester, monkeypatch):
    # Without what else is installed the workers are there sooner.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    options = ("-p", "xdist", "-p", "askonce", "-p", "no:cacheprovider", "-n2")
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    code = """
        @pytest.mark.parametrize("number", range(12))
        def test_many(askonce_client, number):
            assert said(ask(askonce_client, f"question {number % 3}"))
    """
    suite.write(code)
    result = pytester.runpytest_subprocess(*options, "--askonce=auto")
    result.assert_outcomes(passed=12)
    assert len(suite.files) == 3
    asked = len(server.asked)
    assert 3 <= asked <= 6
    suite.write(code.replace("% 3", "% 2"))
    result = pytester.runpytest_subprocess(*options, "--askonce-prune")
    result.assert_outcomes(passed=12)
    result.stdout.fnmatch_lines(["0 recorded, 12 replayed", "deleted 1 unused cassette:"])
    assert len(suite.files) == 2
    assert len(server.asked) == asked


def test_nothing_is_told_where_nothing_was_done(suite):
    result = run(suite, code="    def test_plain(): pass\n", passed=1)
    assert "askonce" not in result.stdout.str().partition("test session starts")[2].split("\n", 9)[-1]


def test_the_plugin_needs_no_hypothesis():
    code = """
import sys
sys.modules["hypothesis"] = None
import askonce.testing.plugin
from askonce import MissingExtraError
try:
    from askonce.testing import StoreTests
except MissingExtraError as error:
    assert "pip install 'askonce[testing]'" in str(error)
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


# The network


def test_sockets_can_be_forbidden(suite, server):
    code = """
        import socket, urllib.request, asyncio
        from urllib.parse import urlsplit

        def test_connect():
            address = urlsplit(URL)
            with socket.socket() as one:
                one.connect((address.hostname, address.port))

        def test_resolve():
            urllib.request.urlopen("http://localhost:1/")

        async def test_async():
            await asyncio.open_connection("127.0.0.1", 1)

        def test_a_local_socket_may():
            one, two = socket.socketpair()
            one.close(), two.close()
    """
    result = run(suite, "--askonce-no-network", code=code, passed=1, failed=3)
    result.stdout.fnmatch_lines(["*something connects to*--askonce-no-network forbids it*"])
    assert socket.socket.connect.__qualname__ != "forbidden.<locals>.guard.<locals>.connect"
