"""What clients would notice of a gateway, and providers that are not quite as expected."""

import contextlib
import json
import socket
import threading

import httpx2
import pytest

from askonce.http.identity import reason_ignored
from tests.gateway.running import configured, gateway
from tests.http import server as servers

CHAT = "/v1/chat/completions"
CHECK = 'check = "/v1/models"'


def body(text="hi", **more):
    return {"model": "m", "messages": [{"role": "user", "content": text}], **more}


@contextlib.contextmanager
def between(tmp_path, answer, more=""):
    """Give a client, a gateway's address and the provider behind it."""
    with (
        servers.running(answer) as provider,
        gateway(configured(tmp_path, provider.address, more)) as running,
        httpx2.Client(
            trust_env=False, timeout=30, headers={"authorization": "Bearer k"}
        ) as client,
    ):
        yield client, running.address, provider


# Credentials


def test_a_key_that_may_not_list_models_may_chat(tmp_path):
    """OpenAI answers 401 to a restricted key that is good for something else."""

    def answer(asked):
        if asked.method == "GET":
            return servers.plain({"error": {"message": "Missing scopes: api.model.read"}}, 401)
        return servers.chat(asked)

    with between(tmp_path, answer, CHECK) as (client, address, provider):
        replies = [client.post(address + CHAT, json=body()) for _ in range(3)]
        assert [reply.status_code for reply in replies] == [200, 200, 200]
        assert sum(asked.method == "POST" for asked in provider.asked) == 1


def test_a_refused_key_hears_what_the_provider_says_to_its_own_request(tmp_path):
    def answer(asked):
        said = {"error": {"message": f"wrong key for {asked.method} {asked.target}"}}
        return servers.plain(said, 401, ("WWW-Authenticate", "Bearer"))

    with between(tmp_path, answer, CHECK) as (client, address, _):
        for _ in range(2):
            reply = client.post(address + CHAT, json=body())
            assert reply.status_code == 401
            assert reply.json() == {"error": {"message": f"wrong key for POST {CHAT}"}}
            assert reply.headers["www-authenticate"] == "Bearer"


def test_a_key_that_is_refused_later_gets_nothing_while_the_provider_is_down(tmp_path):
    accepts = True

    def answer(asked):
        if not accepts:
            return servers.plain({"error": {"message": "revoked"}}, 401)
        return servers.chat(asked) if asked.method == "POST" else servers.plain({"data": []})

    more = f"{CHECK}\n[access]\nverify_for = 0.05\n[[rules]]\nstale_if_error = 1000"
    with between(tmp_path, answer, more) as (client, address, provider):
        assert client.post(address + CHAT, json=body()).status_code == 200
        accepts = False
        while client.post(address + CHAT, json=body()).status_code == 200:
            pass
        provider.answer = lambda _: servers.plain({"error": {"message": "down"}}, 503)
        assert client.post(address + CHAT, json=body()).status_code == 503


def test_cookies_of_a_provider_make_nobody_another_caller(tmp_path):
    """Balancers set one with each answer, and clients with a jar send it back."""
    count = 0

    def answer(asked):
        nonlocal count
        count += 1
        cookie = ("Set-Cookie", f"AWSALB={count}; Path=/")
        if asked.method == "GET":
            return servers.plain({"data": []}, 200, cookie)
        if asked.json().get("stream"):
            return servers.chunked(servers.events("Hello"), cookie)
        return servers.plain(servers.completion(), 200, cookie)

    with between(tmp_path, answer) as (client, address, provider):
        for text in ("plain", "stream"):
            before = provider.count
            for _ in range(3):
                asked = body(text, stream=text == "stream")
                assert client.post(address + CHAT, json=asked).status_code == 200
            assert provider.count == before + 1
        assert client.get(f"{address}/v1/models").headers["set-cookie"].startswith("AWSALB")


# Headers


@pytest.mark.parametrize("offered", ["br, gzip, deflate", "zstd", "x-odd;q=1, gzip;q=0.5", "*"])
def test_answers_come_in_no_coding_that_cannot_be_undone(tmp_path, offered):
    def answer(asked):
        told = asked.header("accept-encoding") or ""
        if any(coding in told for coding in ("x-odd", "*")):
            return servers.plain(b"\x01\x02\x03", 200, ("Content-Encoding", "x-odd"))
        return servers.chat(asked)

    headers = {"accept-encoding": f"x-odd, {offered}"}
    with between(tmp_path, answer) as (client, address, provider):
        for _ in range(3):
            reply = client.post(address + CHAT, json=body(), headers=headers)
            assert reply.json()["choices"]
        assert provider.count == 1
        # What no cache answers is between the two of them.
        client.get(f"{address}/v1/models", headers=headers)
        assert provider.asked[-1].header("accept-encoding") == headers["accept-encoding"]


def test_who_offers_no_coding_is_sent_none(tmp_path):
    with between(tmp_path, servers.chat) as (client, address, provider):
        del client.headers["accept-encoding"]
        client.post(address + CHAT, json=body())
        assert provider.asked[-1].header("accept-encoding") is None


def test_what_a_provider_says_of_its_own_host_is_not_said_of_ours(tmp_path):
    of_the_host = [
        ("Alt-Svc", 'h3=":443"; ma=86400'),
        ("Strict-Transport-Security", "max-age=31536000; includeSubDomains; preload"),
        ("NEL", '{"report_to":"cf"}'),
        ("Report-To", '{"group":"cf"}'),
        ("X-RateLimit-Remaining", "7"),
    ]

    def answer(asked):
        if asked.method == "GET":
            return servers.plain({"data": []}, 200, *of_the_host)
        return servers.plain(servers.completion(), 200, *of_the_host)

    with between(tmp_path, answer) as (client, address, _):
        for reply in (client.get(f"{address}/v1/models"), client.post(address + CHAT, json=body())):
            assert reply.status_code == 200
            assert reply.headers["x-ratelimit-remaining"] == "7"
            assert not {name.lower() for name, _ in of_the_host[:-1]} & set(reply.headers)


@pytest.mark.parametrize("stream", [False, True])
def test_programs_in_browsers_may_read_what_is_kept(tmp_path, stream):
    allowed = ("Access-Control-Allow-Origin", "*"), ("Access-Control-Expose-Headers", "X-Request-ID")

    def answer(asked):
        if asked.json().get("stream"):
            return servers.chunked(servers.events("Hello"), *allowed)
        return servers.plain(servers.completion(), 200, *allowed)

    with between(tmp_path, answer) as (client, address, provider):
        for _ in range(3):
            reply = client.post(address + CHAT, json=body(stream=stream))
            assert reply.headers["access-control-allow-origin"] == "*"
            assert reply.headers["access-control-expose-headers"] == "X-Request-ID"
        assert provider.count == 1


def test_what_one_page_may_read_is_not_said_to_another(tmp_path):
    def answer(asked):
        origin = asked.header("origin")
        return servers.plain(servers.completion(), 200, ("Access-Control-Allow-Origin", origin))

    with between(tmp_path, answer) as (client, address, _):
        first = client.post(address + CHAT, json=body(), headers={"origin": "https://a.example"})
        assert first.headers["access-control-allow-origin"] == "https://a.example"
        second = client.post(address + CHAT, json=body(), headers={"origin": "https://b.example"})
        assert "access-control-allow-origin" not in second.headers


def test_any_language_is_no_wish(tmp_path):
    """JavaScript's fetch says so in each request; other clients say nothing of languages."""
    assert reason_ignored("accept-language", "*") and reason_ignored("accept-language", " * ")
    assert reason_ignored("accept-language", "de") is None
    with between(tmp_path, servers.chat) as (client, address, provider):
        client.post(address + CHAT, json=body(), headers={"accept-language": "*"})
        client.post(address + CHAT, json=body())
        assert provider.count == 1
        client.post(address + CHAT, json=body(), headers={"accept-language": "de"})
        assert provider.count == 2


# Batches


@pytest.mark.parametrize("status", [400, 413, 422])
def test_what_is_wrong_with_an_input_is_told_by_its_own_place(tmp_path, status):
    def answer(asked):
        inputs = asked.json()["input"]
        if "bad" in inputs:
            message = f"Invalid 'input[{inputs.index('bad')}]': string too long."
            return servers.plain({"error": {"message": message}}, status)
        data = [{"object": "embedding", "index": n, "embedding": [1.0]} for n in range(len(inputs))]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        return servers.plain({"object": "list", "data": data, "model": "m", "usage": usage})

    def ask(*texts):
        return client.post(f"{address}/v1/embeddings", json={"model": "m", "input": texts})

    with between(tmp_path, answer) as (client, address, provider):
        assert ask("a", "b").status_code == 200
        reply = ask("a", "b", "bad")
        assert (reply.status_code, reply.json()["error"]["message"][:18]) == (status, "Invalid 'input[2]'")
        before = provider.count
        assert ask("a", "b").status_code == 200
        assert provider.count == before


# Callers that go away


@pytest.mark.parametrize("path", ["/v1/audio/transcriptions", "/v1/files", CHAT, "/v1/embeddings"])
def test_nobody_goes_on_asking_for_a_caller_that_went_away(tmp_path, path):
    """Also where the request had a body that was passed on as it came."""
    heard, left = threading.Event(), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def provide():
            connection, _ = listener.accept()
            with connection:
                received = b""
                while b"THE END" not in received:
                    received += connection.recv(65536)
                heard.set()
                connection.settimeout(60)
                with contextlib.suppress(OSError):
                    while connection.recv(65536):
                        pass
                left.set()

        provider = threading.Thread(target=provide, daemon=True)
        provider.start()
        config = configured(tmp_path, f"http://127.0.0.1:{listener.getsockname()[1]}")
        with gateway(config) as running:
            content = json.dumps({**body("THE END"), "input": "x"}).encode()
            host, _, port = running.address.removeprefix("http://").rpartition(":")
            with socket.create_connection((host, int(port))) as caller:
                caller.sendall(
                    f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(content)}\r\n\r\n".encode()
                    + content
                )
                assert heard.wait(30)
            assert left.wait(30)
        provider.join(30)
