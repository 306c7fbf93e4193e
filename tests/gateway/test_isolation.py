"""Who may have what: other credentials, other keys, forged, revoked and expired ones."""

import asyncio
import hashlib
import json
import subprocess
import sys
import time

import httpx2
import pytest

from askonce.gateway import acceptance
from askonce.gateway.api_keys import KeyRing
from askonce.stores import open_store
from tests.gateway.generating import Question, Response, plain, stream
from tests.gateway.in_process import InProcess, seeded
from tests.gateway.running import configured, gateway
from tests.http import server as servers

CHAT, VECTORS = "/v1/chat/completions", "/v1/embeddings"
KINDS = ("chat", "stream", "embeddings")

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
PROVIDERS_KEY = "sk-providers-own-0123456789"


def who(headers, target):
    """Name the credentials of a request without telling them."""
    names = ("authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie")
    found = sorted(
        (name.lower(), value)
        for name, value in headers
        if name.lower() in (*names, "openai-organization", "openai-project")
    )
    key = [pair for pair in target.partition("?")[2].split("&") if pair.startswith("key=")]
    return hashlib.sha256(json.dumps([found, key]).encode()).hexdigest()[:16]


class Strict:
    """Be a provider that knows its keys, and says in each answer who has asked and what."""

    def __init__(self):
        self.accepts = {"sk-good-one", "sk-good-two", PROVIDERS_KEY}
        self.extra = ()

    def __call__(self, asked):
        secrets = [
            (asked.header(name) or "").removeprefix("Bearer ")
            for name in ("authorization", "x-api-key", "api-key", "x-goog-api-key")
        ]
        query = asked.target.partition("?")[2]
        secrets += [pair[4:] for pair in query.split("&") if pair.startswith("key=")]
        given = [secret for secret in secrets if secret]
        if not given or not self.accepts.issuperset(given):
            error = {"message": "Incorrect API key provided", "code": "invalid_api_key"}
            return servers.plain({"error": error}, 401)
        name = who(asked.headers, asked.target)
        if asked.method == "POST" and asked.target.partition("?")[0] == VECTORS:
            told = asked.json()["input"]
            inputs = told if isinstance(told, list) else [told]
            data = [
                {"object": "embedding", "index": place, "embedding": vector(name, content)}
                for place, content in enumerate(inputs)
            ]
            usage = {"prompt_tokens": 1, "total_tokens": 1}
            answer = {"object": "list", "data": data, "model": "m", "usage": usage}
            return servers.plain(answer, 200, *self.extra)
        if asked.method == "POST" and asked.target.partition("?")[0] == CHAT:
            body = asked.json()
            text = f"{name}: {body['messages'][0]['content']}"
            if body.get("stream"):
                return servers.chunked(servers.events(text), *self.extra)
            return servers.plain(servers.completion(text), 200, *self.extra)
        return servers.plain({"for": name}, 200, *self.extra)


def vector(name, content):
    return [byte / 256 for byte in hashlib.sha256(f"{name}: {content}".encode()).digest()[:6]]


def content_of(kind, prompt, model="m"):
    if kind == "embeddings":
        return {"model": model, "input": [prompt, prompt + "!"]}
    body = {"model": model, "messages": [{"role": "user", "content": prompt}]}
    return {**body, "stream": True} if kind == "stream" else body


class Caller:
    """Ask a gateway, and remember all that it has told."""

    def __init__(self, running, provider):
        self.running = running
        self.provider = provider
        self.http = httpx2.Client(trust_env=False, timeout=30)
        self.told = []

    def send(self, method, path, credential, content=None, **headers):
        key = credential.get("?key")
        sent = {name: value for name, value in credential.items() if name != "?key"}
        target = path + (f"?key={key}" if key else "")
        reply = self.http.request(
            method,
            self.running.address + target,
            json=content,
            headers={**sent, **headers},
        )
        self.told.append(f"{reply.headers.multi_items()} {reply.text}")
        return reply

    def ask(self, kind, prompt, credential, model="m", **headers):
        path = VECTORS if kind == "embeddings" else CHAT
        return self.send("POST", path, credential, content_of(kind, prompt, model), **headers)

    def asked(self):
        return len(self.provider.asked)


def is_for(reply, kind, prompt, credential):
    """Tell whether an answer is that of this credential to this question."""
    key = credential.get("?key")
    headers = [(name, value) for name, value in credential.items() if name != "?key"]
    name = who(headers, f"/?key={key}" if key else "/")
    if kind == "embeddings":
        rows = [item["embedding"] for item in reply.json()["data"]]
        return rows == [vector(name, prompt), vector(name, prompt + "!")]
    return f"{name}: {prompt}" in reply.text


def is_hit(reply):
    """Tell whether it was kept, or was just being kept for whoever had asked before."""
    status = reply.headers.get("cache-status", "")
    return status.startswith("askonce; hit") or status.endswith("; collapsed")


@pytest.fixture(scope="module")
def strict():
    return Strict()


@pytest.fixture(scope="module")
def provider(strict):
    with servers.running(strict) as server:
        yield server


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
    assert len(running.log) > 100
    assert [one for one in secrets_of([*GOOD, *BAD]) if one in told and one[:2] == "sk"] == []


# Credentials of the provider


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


# What the provider accepted, for how long, and by which provider


class Clock:
    def __init__(self):
        self.now = 1_800_000_000.0

    def time(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(acceptance, "time", clock)
    return clock


class Memory:
    """Be a provider in this process."""

    def __init__(self):
        self.accepts = {b"Bearer one", b"Bearer two"}
        self.count = 0
        self.paths = []
        self.status = 0
        self.check = 200

    def __call__(self, question):
        self.count += 1
        self.paths.append(question.path)
        nonce = f"{self.count:08x}"
        given = dict(question.headers).get(b"authorization")
        if self.status:
            return self.say(self.status, b"{}", nonce)
        if given not in self.accepts:
            return self.say(401, b'{"error":{"message":"no"}}', nonce)
        if question.path == "/v1/models":
            return self.say(self.check, b"{}", nonce)
        text = f"D{question.digest}N{nonce}Z"
        if question.wants_stream:
            return self.say(200, b"".join(stream(CHAT, text, seeded(1))), nonce, b"text/event-stream")
        return self.say(200, json.dumps(plain(CHAT, text)).encode(), nonce)

    @staticmethod
    def say(status, body, nonce, kind=b"application/json"):
        head = b"HTTP/1.1 %d X\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
        return Response([head % (status, kind, len(body)) + body], nonce, True, status)


def serve(memory, *, check, share="credential", verify_for=100, trust=1000, more=()):
    upstream = {"name": "fake", "base_url": "http://up.test/v1", "paths": ["/v1/*"]}
    return InProcess(
        memory,
        cache={"store": "memory://", "share": share},
        access={"verify_for": verify_for, "trust_when_down": trust},
        upstreams=[*more, {**upstream, "check": "/v1/models"} if check else upstream],
    )


def question(prompt="hi", credential="one", target=CHAT, *, is_stream=False, **headers):
    body = {"model": "m", "messages": [{"role": "user", "content": prompt}]}
    if is_stream:
        body["stream"] = True
    told = [(b"host", b"x")]
    if credential:
        told.append((b"authorization", f"Bearer {credential}".encode()))
    told += [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Question("POST", target, told, json.dumps(body).encode())


@pytest.mark.parametrize("check", [True, False], ids=["check", "nocheck"])
@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_credential_that_is_accepted_no_longer_gets_nothing_kept(clock, check, is_stream):
    memory = Memory()
    ask = question(is_stream=is_stream)
    async with serve(memory, check=check) as served:
        assert (await served.ask(ask)).status == 200
        assert "hit" in (await served.ask(ask)).outcome
        memory.accepts = set()
        clock.now += 99
        assert "hit" in (await served.ask(ask)).outcome
        clock.now += 2
        for _ in range(3):
            got = await served.ask(ask)
            assert got.status == 401 and got.json() == {"error": {"message": "no"}}
        assert (await served.ask(question("other"))).status == 401
        memory.accepts = {b"Bearer one"}
        got = await served.ask(ask)
        assert got.status == 200
        assert "hit" in (await served.ask(ask)).outcome


@pytest.mark.parametrize("check", [True, False], ids=["check", "nocheck"])
@pytest.mark.parametrize("fails", ["down", 429, 503])
async def test_while_the_provider_is_down_who_was_accepted_not_long_ago_goes_on(
    clock, check, fails
):
    memory = Memory()
    async with serve(memory, check=check, trust=1000) as served:
        first = await served.ask(question())
        assert first.status == 200
        clock.now += 500
        if fails == "down":
            served.provider.is_down = True
            state = served.gateway._state
            for way in state.ways.values():
                for connection in way.transport._pool.connections:
                    await connection.aclose()
        else:
            memory.status = fails
        assert (await served.ask(question())).body == first.body
        for credential in ("two", "bad", ""):
            assert (await served.ask(question(credential=credential))).status in (502, 429, 503)
        clock.now += 600
        assert (await served.ask(question())).status in (502, 429, 503)


async def test_trust_may_be_none(clock):
    memory = Memory()
    async with serve(memory, check=True, trust=0) as served:
        assert (await served.ask(question())).status == 200
        clock.now += 101
        memory.status = 503
        assert (await served.ask(question())).status == 503


async def test_a_check_is_one_request_for_all_who_wait(clock):
    memory = Memory()
    async with serve(memory, check=True) as served:
        await served.ask(question())
        memory.paths.clear()
        clock.now += 101
        gots = await asyncio.gather(*(served.ask(question()) for _ in range(20)))
        assert all("hit" in got.outcome for got in gots)
        assert memory.paths == ["/v1/models"]


async def test_a_check_that_says_nothing_proves_nothing(clock):
    memory = Memory()
    memory.check = 404
    async with serve(memory, check=True, share="everyone") as served:
        await served.ask(question())
        memory.paths.clear()
        assert (await served.ask(question(credential="two"))).status == 200
        assert memory.paths == ["/v1/models", CHAT]
        assert (await served.ask(question(credential="bad"))).status == 401


@pytest.mark.parametrize("check", [True, False], ids=["check", "nocheck"])
@pytest.mark.parametrize("is_stream", [False, True])
async def test_shared_by_everyone_is_shared_by_all_who_are_accepted(clock, check, is_stream):
    memory = Memory()
    async with serve(memory, check=check, share="everyone") as served:
        ask = {"is_stream": is_stream}
        assert (await served.ask(question(**ask))).status == 200
        for credential in ("bad", "", "Two"):
            for _ in range(2):
                assert (await served.ask(question(credential=credential, **ask))).status == 401
        got = await served.ask(question(credential="two", **ask))
        assert got.status == 200 and ("hit" in got.outcome) == check
        asked = memory.count
        assert "hit" in (await served.ask(question(credential="two", **ask))).outcome
        assert memory.count == asked
        memory.accepts = set()
        clock.now += 101
        assert (await served.ask(question(credential="two", **ask))).status == 401


@pytest.mark.parametrize("check", [True, False], ids=["check", "nocheck"])
async def test_nobody_unproven_joins_who_is_asking_already(clock, check):
    """A flight of somebody else's must not carry whom the provider would turn away."""
    memory = Memory()
    async with serve(memory, check=check, share="everyone") as served:
        credentials = ("one", "bad", "", "bad", "one")
        gots = await asyncio.gather(*(served.ask(question(credential=one)) for one in credentials))
        assert [got.status for got in gots] == [200, 401, 401, 401, 200]


async def test_what_one_provider_accepts_is_nothing_to_another(clock):
    """Else an open server of one's own would let in to what a closed one has answered."""
    memory = Memory()
    free = {"name": "free", "base_url": "http://free.test/v1"}

    def answer(asked):
        host = dict(asked.headers)[b"host"]
        if host == b"free.test":
            memory.accepts.add(dict(asked.headers).get(b"authorization"))
            try:
                return memory(asked)
            finally:
                memory.accepts.discard(b"Bearer bad")
        return memory(asked)

    async with serve(answer, check=False, share="everyone", more=[free]) as served:
        assert (await served.ask(question())).status == 200
        assert (await served.ask(question(credential="bad", target=f"/free{CHAT}"))).status == 200
        assert (await served.ask(question(credential="bad"))).status == 401
        clock.now += 99
        memory.accepts.clear()
        # Neither does asking there make a credential last longer here.
        assert (await served.ask(question("again", target=f"/free{CHAT}"))).status == 200
        memory.accepts.clear()
        clock.now += 2
        assert (await served.ask(question())).status == 401


# The gateway's own keys


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
    assert len(running.log) > 50
    for secret in (PROVIDERS_KEY, *keys.secrets):
        assert secret not in told and secret[-20:] not in told
    for asked in provider.asked[begun:]:
        assert asked.header("authorization") == f"Bearer {PROVIDERS_KEY}"
        heard = f"{asked.target} {asked.headers} {asked.body!r}"
        assert not any(secret in heard or "ask-" in heard for secret in keys.secrets)
        assert asked.header("askonce-namespace") is None


def bearer(secret):
    return {"authorization": f"Bearer {secret}"}


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
