"""Credentials of the provider: each has answers of its own, and none has those of others."""

import pytest

from tests.gateway.isolation.callers import KINDS, Caller, is_for, is_hit
from tests.gateway.isolation.strict_provider import who
from tests.gateway.running import configured, gateway

GOOD = [
    {"authorization": "Bearer sk-good-one"},
    {"authorization": "Bearer sk-good-two"},
    {"x-api-key": "sk-good-one"},
    {"api-key": "sk-good-one"},
    {"x-goog-api-key": "sk-good-one"},
    {"?key": "sk-good-one"},
    {"?key": "sk-good-two"},
    {"authorization": "Bearer sk-good-one", "openai-organization": "org-a"},
    {"authorization": "Bearer sk-good-one", "openai-organization": "org-b"},
    {"authorization": "Bearer sk-good-one", "openai-project": "proj-a"},
    {"authorization": "Bearer sk-good-one", "x-api-key": "sk-good-two"},
    {"authorization": "Bearer sk-good-one", "cookie": "session=1"},
]
BAD = [
    {"authorization": "Bearer sk-stolen"},
    {"authorization": "Bearer sk-good-on"},
    {"authorization": "Bearer sk-good-one "[:-2]},
    {"authorization": "sk-good-three"},
    {"x-api-key": "sk-stolen"},
    {"?key": "sk-stolen"},
    {},
]


def secrets_of(credentials):
    return {value.removeprefix("Bearer ") for one in credentials for value in one.values()}


@pytest.fixture(scope="module")
def caller(tmp_path_factory, provider):
    """Ask a gateway that passes credentials on, and in the end look for them in what it told."""
    folder = tmp_path_factory.mktemp("open")
    config = configured(folder, provider.address, 'check = "/v1/models"')
    with gateway(config) as running:
        caller = Caller(running, provider)
        yield caller
        caller.http.close()
        assert running.stop() in (0, -15)
    told = "".join(running.log) + "".join(caller.told)
    assert len(running.log) > len(caller.told)
    assert [one for one in secrets_of([*GOOD, *BAD]) if one in told and one[:2] == "sk"] == []


@pytest.mark.parametrize("kind", KINDS)
def test_each_credential_has_answers_of_its_own(caller, kind):
    for _ in range(2):
        for credential in GOOD:
            before = caller.asked()
            reply = caller.ask(kind, "own", credential)
            assert reply.status_code == 200, reply.text
            assert is_for(reply, kind, "own", credential), credential
            assert is_hit(reply) == (caller.asked() == before)
    assert all(is_hit(caller.ask(kind, "own", credential)) for credential in GOOD)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("credential", BAD, ids=str)
def test_who_is_not_accepted_gets_what_the_provider_says(caller, kind, credential):
    assert caller.ask(kind, "kept", GOOD[0]).status_code == 200
    for headers in ({}, {"cache-control": "only-if-cached"}, {"cache-control": "max-age=999"}):
        reply = caller.ask(kind, "kept", credential, **headers)
        if "only-if-cached" in headers.values():
            # It is not asked at all.
            assert (reply.status_code, reply.json()["error"]["code"]) == (504, "only_if_cached")
            continue
        assert reply.status_code == 401
        assert reply.json()["error"]["message"] == "Incorrect API key provided"


@pytest.mark.parametrize("kind", KINDS)
def test_a_namespace_is_a_wall_within_a_wall(caller, kind):
    prompt = f"walls {kind}"
    for credential in GOOD[:2]:
        for namespace in ("", "a", "b"):
            headers = {"askonce-namespace": namespace} if namespace else {}
            reply = caller.ask(kind, prompt, credential, **headers)
            assert not is_hit(reply)
            assert is_for(reply, kind, prompt, credential)
            assert is_hit(caller.ask(kind, prompt, credential, **headers))


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/models"), ("GET", "/v1/files"), ("POST", "/v1/files"), ("DELETE", "/v1/files/f")],
)
def test_what_passes_by_is_asked_each_time_with_the_callers_credential(caller, method, path):
    for credential in (*GOOD, *BAD):
        before = caller.asked()
        replies = [caller.send(method, path, credential, {"a": 1}) for _ in range(2)]
        assert caller.asked() == before + 2
        wanted = 200 if credential in GOOD else 401
        assert [reply.status_code for reply in replies] == [wanted] * 2
        if wanted == 200:
            key = credential.get("?key")
            sent = [pair for pair in credential.items() if pair[0] != "?key"]
            name = who(sent, f"/?key={key}" if key else "/")
            assert replies[0].json()["for"] == name


def test_what_a_connection_names_decides_nothing_for_it_does_not_go_on(caller):
    """Else the answer to a question without a header would stand for the one with it."""
    header = {"openai-beta": "b"}
    without = caller.ask("chat", "named", GOOD[0], connection="keep-alive, openai-beta", **header)
    assert without.status_code == 200
    assert caller.provider.asked[-1].header("openai-beta") is None
    assert not is_hit(caller.ask("chat", "named", GOOD[0], **header))
    assert caller.provider.asked[-1].header("openai-beta") == "b"
    # A credential that does not go on is none.
    hidden = caller.ask("chat", "named", GOOD[0], connection="authorization")
    assert hidden.status_code == 401


def test_trace_shows_nothing(caller):
    before = caller.asked()
    assert caller.send("TRACE", "/v1/models", GOOD[0]).status_code == 405
    assert caller.asked() == before
