"""Failures: what is not recorded, what cannot be replayed, what is damaged."""

from tests.testing.plugin.suites import ONE, run
from tests.testing.provider import SECRETS

pytest_plugins = ["pytester"]


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
