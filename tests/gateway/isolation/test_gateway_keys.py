"""The gateway's own keys: what they give, and what no forged, revoked or expired one does."""

import json
import subprocess
import sys
import time

import pytest

from askonce.gateway.api_keys import KeyRing
from askonce.stores import open_store
from tests.gateway.isolation.callers import KINDS, Caller, bearer, content_of, is_for, is_hit
from tests.gateway.isolation.strict_provider import CHAT, PROVIDERS_KEY, VECTORS
from tests.gateway.running import configured, gateway


class Keys:
    """Make keys, one by the command line and the others beside it."""

    def __init__(self, folder):
        self.url = f"sqlite:///{folder}/keys.db"
        self.store = open_store(self.url)
        self.ring = KeyRing(self.store)
        self.secrets = []

    def command(self, *words):
        command = [sys.executable, "-m", "askonce.cli", "keys", *words, "--store", self.url]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout.strip()

    def make(self, name, *, now=None, **limits):
        secret, key = self.ring.create(name, now=time.time() if now is None else now, **limits)
        self.secrets.append(secret)
        return secret


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    keys = Keys(tmp_path_factory.mktemp("keys"))
    yield keys
    keys.store.close()


@pytest.fixture(scope="module")
def own(tmp_path_factory, provider, keys):
    """Ask a gateway with keys of its own."""
    folder = tmp_path_factory.mktemp("own")
    secret = keys.command("create", "by-command", "--namespace", "team")
    keys.secrets.append(secret)
    more = f"""
credential_env = "PROVIDERS_KEY"
[access]
keys = "{keys.url}"
[[prices]]
model = "dear*"
input = 1000000
output = 1000000
"""
    config = configured(folder, provider.address, more)
    with gateway(config, PROVIDERS_KEY=PROVIDERS_KEY) as running:
        caller = Caller(running, provider)
        caller.secret = secret
        begun = len(provider.asked)
        yield caller
        caller.http.close()
        assert running.stop() in (0, -15)
    told = "".join(running.log) + "".join(caller.told)
    assert len(running.log) > len(caller.told)
    for secret in (PROVIDERS_KEY, *keys.secrets):
        assert secret not in told and secret[-20:] not in told
    for asked in provider.asked[begun:]:
        assert asked.header("authorization") == f"Bearer {PROVIDERS_KEY}"
        heard = f"{asked.target} {asked.headers} {asked.body!r}"
        assert not any(secret in heard or "ask-" in heard for secret in keys.secrets)
        assert asked.header("askonce-namespace") is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "carrier", ["authorization", "x-api-key", "api-key", "x-goog-api-key", "?key"]
)
def test_a_key_may_come_in_each_place_and_goes_no_further(own, kind, carrier):
    prompt = f"{kind} carried by {carrier}"
    credential = {carrier: own.secret} if carrier != "authorization" else bearer(own.secret)
    first, second = (own.ask(kind, prompt, credential) for _ in range(2))
    assert first.status_code == second.status_code == 200, first.text
    assert not is_hit(first) and is_hit(second)
    assert is_for(second, kind, prompt, bearer(PROVIDERS_KEY))
    assert is_hit(own.ask(kind, prompt, bearer(own.secret)))


def wrong_keys(keys, own):
    past = time.time() - 1000
    expired = keys.make("expired", now=past, expires=past + 500, namespace="team")
    revoked = keys.make("revoked", namespace="team")
    keys.command("revoke", "revoked")
    good = own.secret
    last = "A" if good[-1] != "A" else "B"
    return {
        "none": {},
        "empty": {"authorization": "Bearer"},
        "basic": {"authorization": f"Basic {good}"},
        "expired": bearer(expired),
        "revoked": bearer(revoked),
        "forged": bearer(good[:-1] + last),
        "of another id": bearer(f"ask-{revoked[4:12]}-{good[13:]}"),
        "the provider's own": bearer(PROVIDERS_KEY),
        "a good one of the provider": bearer("sk-good-one"),
        "behind a bad one": {"authorization": "Bearer sk-good-one", "x-api-key": good},
        "encoded": {"?key": good.replace("-", "%2D", 1)},
        "upper": {"x-api-key": good.upper()},
    }


def test_without_a_valid_key_nothing_is_answered(own, keys):
    for kind in KINDS:
        assert own.ask(kind, "locked", bearer(own.secret)).status_code == 200
    before = own.asked()
    for name, credential in wrong_keys(keys, own).items():
        for kind in KINDS:
            for prompt in ("locked", "never asked"):
                reply = own.ask(kind, prompt, credential)
                assert reply.status_code == 401, (name, kind, prompt, reply.text)
                assert reply.headers["www-authenticate"] == "Bearer"
        for method, path in (("GET", "/v1/models"), ("POST", "/v1/files"), ("GET", "/x"), ("TRACE", "/")):
            assert own.send(method, path, credential).status_code == 401, (name, path)
    assert own.asked() == before
    assert own.running.get("/healthz")[0] == 200


def test_a_key_that_is_revoked_is_out_within_a_second(own, keys):
    secret = keys.make("short-lived", namespace="team")
    assert own.ask("chat", "revoked", bearer(secret)).status_code == 200
    assert is_hit(own.ask("chat", "revoked", bearer(secret)))
    keys.command("revoke", "short-lived")
    seen = time.monotonic()
    while own.ask("chat", "revoked", bearer(secret)).status_code == 200:
        assert time.monotonic() - seen < 30
    for kind in KINDS:
        assert own.ask(kind, "revoked", bearer(secret)).status_code == 401


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_gives_only_its_models(own, keys, kind):
    secret = keys.make(f"models {kind}", namespace="team", models=["cheap*"])
    assert own.ask(kind, "models", bearer(own.secret), model="m").status_code == 200
    before = own.asked()
    for model in ("m", "Cheap", "", "xcheap", None, ["cheap"]):
        reply = own.ask(kind, "models", bearer(secret), model=model)
        assert reply.status_code == 403, model
        assert reply.json()["error"]["code"] == "model_refused"
    twice = json.dumps(content_of(kind, "models", "cheap")).replace("{", '{"model":"m",', 1)
    for raw in (twice, '{"model":"cheap"', "", "[]", '\ufeff{"model":"cheap"}'):
        path = VECTORS if kind == "embeddings" else CHAT
        reply = own.http.post(
            own.running.address + path, content=raw.encode(), headers=bearer(secret)
        )
        assert reply.status_code == 403, raw
    for method, path in (
        ("POST", "/v1/files"),
        ("GET", "/v1/files"),
        ("POST", CHAT + "/"),
        ("POST", "/v1/models/m"),
        ("DELETE", "/v1/models/cheap"),
    ):
        assert own.send(method, path, bearer(secret), content_of(kind, "x", "cheap")).status_code == 403
    for path in (
        "/fake/v1/models/m/embeddings",
        "/fake/openai/deployments/m/chat/completions",
        "/fake/openai/Deployments/m/chat/completions",
        "/fake/openai/deployments/%6d/chat/completions",
    ):
        assert own.send("POST", path, bearer(secret), content_of(kind, "x", "cheap")).status_code == 403
    assert own.asked() == before
    assert own.ask(kind, "models", bearer(secret), model="cheap-1").status_code == 200
    assert own.send("GET", "/v1/models", bearer(secret)).status_code == 200


@pytest.mark.parametrize("kind", KINDS)
def test_the_rate_of_a_key_is_that_of_hits_too(own, keys, kind):
    secret = keys.make(f"rate {kind}", namespace="team", requests_per_minute=3)
    statuses = [own.ask(kind, "rate", bearer(secret)).status_code for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]
    reply = own.ask(kind, "rate", bearer(secret))
    assert 1 <= int(reply.headers["retry-after"]) <= 62
    assert reply.json()["error"]["code"] == "requests_per_minute"
    assert own.send("GET", "/v1/models", bearer(secret)).status_code == 429
    assert own.ask(kind, "rate", bearer(own.secret)).status_code == 200


@pytest.mark.parametrize("kind", KINDS)
def test_a_budget_that_is_spent_lets_nothing_through(own, keys, kind):
    secret = keys.make(f"budget {kind}", namespace="team", budget_per_day=0.5)
    assert own.ask(kind, "no price", bearer(secret)).json()["error"]["code"] == "price_unknown"
    assert own.send("POST", "/v1/files", bearer(secret)).status_code == 403
    assert own.ask(kind, "dear", bearer(own.secret), model="dear-1").status_code == 200
    before = own.asked()
    for _ in range(3):
        # What others have paid for costs nothing.
        assert is_hit(own.ask(kind, "dear", bearer(secret), model="dear-1"))
    assert own.asked() == before
    anew = f"dear anew {kind}"
    assert own.ask(kind, anew, bearer(secret), model="dear-1").status_code == 200
    began = time.monotonic()
    # What it cost is known when the answer has come to its end.
    while (reply := own.ask(kind, anew, bearer(secret), model="dear-1")).status_code == 200:
        assert time.monotonic() - began < 30
    assert reply.status_code == 429
    assert reply.json()["error"]["code"] == "budget_per_day"
    assert own.asked() == before + 1


@pytest.mark.parametrize("kind", KINDS)
def test_keys_share_by_their_namespaces_which_nobody_chooses(own, keys, kind):
    alone = keys.make(f"alone {kind}")
    other = keys.make(f"other {kind}", namespace="other")
    prompt = f"spaces {kind}"
    assert not is_hit(own.ask(kind, prompt, bearer(own.secret)))
    for secret in (alone, other):
        assert not is_hit(own.ask(kind, prompt, bearer(secret)))
        assert is_hit(own.ask(kind, prompt, bearer(secret)))
        before = own.asked()
        for name in ("Askonce-Namespace", "askonce-namespace", "ASKONCE-NAMESPACE"):
            for forged in ("team", "", "team2", "../team", "team/", "*", "tea%6d"):
                reply = own.ask(kind, prompt, bearer(secret), **{name: forged})
                assert reply.status_code == 403, forged
        twice = [("authorization", f"Bearer {secret}")]
        twice += [("askonce-namespace", "other"), ("askonce-namespace", "team")]
        path = VECTORS if kind == "embeddings" else CHAT
        for headers in (twice, twice[::-1]):
            reply = own.http.post(
                own.running.address + path, json=content_of(kind, prompt), headers=headers
            )
            assert reply.status_code == 403
        assert own.asked() == before
    assert is_hit(own.ask(kind, prompt, bearer(other), **{"askonce-namespace": "other"}))


def test_whose_account_it_is_concerns_no_caller(own, strict):
    strict.extra = (
        ("Set-Cookie", "account=1"),
        ("OpenAI-Organization", "org-of-the-house"),
        ("Anthropic-Organization-Id", "org-id"),
        ("OpenAI-Project", "project"),
    )
    try:
        for kind in KINDS:
            for _ in range(2):
                reply = own.ask(kind, "account", bearer(own.secret))
                assert reply.status_code == 200
        own.send("GET", "/v1/models", bearer(own.secret))
    finally:
        strict.extra = ()
    assert not [told for told in own.told if "org-" in told or "account=" in told]


@pytest.mark.parametrize("kind", KINDS)
def test_credentials_of_the_callers_own_decide_nothing_and_go_nowhere(own, kind):
    more = {"openai-organization": "org-x", "cookie": "a=b", "x-goog-user-project": "p", "x-my-token": "t"}
    first = own.ask(kind, "added", bearer(own.secret), **more)
    assert first.status_code == 200
    heard = own.provider.asked[-1]
    assert not any(heard.header(name) for name in more)
    assert is_hit(own.ask(kind, "added", bearer(own.secret)))


def test_trailers_are_no_headers(own, keys):
    """What comes after the body was not looked at when it was decided who may come in."""
    import socket

    secret = keys.make("trailing", namespace="trailing")
    body = json.dumps(content_of("chat", "trailing")).encode()
    host, port = own.running.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(
            f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secret}\r\n"
            "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n".encode()
            + b"%x\r\n%s\r\n0\r\n" % (len(body), body)
            + b"Askonce-Namespace: team\r\nX-Decides: 1\r\nAuthorization: Bearer x\r\n\r\n"
        )
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 200"), answer
    heard = own.provider.asked[-1]
    assert heard.header("x-decides") is None
    assert is_hit(own.ask("chat", "trailing", bearer(secret)))
