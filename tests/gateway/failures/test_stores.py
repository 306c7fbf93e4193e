"""Stores that stand still, lose what they had, or come later: everybody is served."""

import concurrent.futures

from tests.gateway.failures.asking import CHAT, PATIENCE, VECTORS, ask, is_hit, kept, until
from tests.gateway.failures.steered import Halves
from tests.gateway.running import configured, gateway
from tests.servers.ports import free_port
from tests.servers.redis import PROGRAMS, RedisServer


def test_while_the_store_is_paused_everybody_is_served(shared, redis, provider, steered):
    kept(shared, "before")
    asked = provider.count
    with redis.paused():
        for number in range(30):
            # From the provider each time, right, and whole.
            for path, more in ((CHAT, {}), (CHAT, {"stream": True}), (VECTORS, {})):
                prompt = f"paused {number} {more}"
                reply = ask(shared, prompt, path, **more)
                assert reply.status_code == 200
                assert not is_hit(reply)
                assert path == VECTORS or more or f"answer to {prompt}" in reply.text
        assert shared.get("/healthz")[0] == 200
        assert shared.get("/readyz")[0] == 503
        assert provider.count == asked + 90
        assert 'askonce_store_failures_total' in shared.get("/metrics")[1]
    until(lambda: shared.get("/readyz")[0] == 200, "the store is back")
    until(lambda: is_hit(ask(shared, "before")), "and what is in it is given again")


def test_a_store_that_comes_back_empty_is_filled_again(shared, redis):
    kept(shared, "lost")
    redis.kill()
    for _ in range(5):
        reply = ask(shared, "lost")
        assert reply.status_code == 200 and "askonce; hit" not in reply.headers["cache-status"]
    assert shared.get("/readyz")[0] == 503
    redis.start()
    until(lambda: is_hit(ask(shared, "lost")), "what is asked again is kept again")


def test_a_stream_goes_on_when_its_store_goes_away(shared, redis, steered):
    steered.steps["halved"] = halves = Halves()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        under_way = pool.submit(ask, shared, "halved", stream=True)
        assert halves.begun.acquire(timeout=PATIENCE)
        with redis.paused():
            halves.go_on.set()
            reply = under_way.result()
    assert reply.status_code == 200 and "[DONE]" in reply.text
    until(lambda: shared.get("/readyz")[0] == 200, "the store is back")


def test_a_store_may_come_later(tmp_path, provider, steered):
    port = free_port()
    config = configured(tmp_path, provider.address, store=f"redis://127.0.0.1:{port}/0")
    with gateway(config) as running:
        for _ in range(3):
            for path in (CHAT, VECTORS):
                reply = ask(running, "early", path)
                assert reply.status_code == 200
                assert "hit" not in reply.headers.get("cache-status", "")
        assert running.get("/healthz")[0] == 200
        assert running.get("/readyz")[0] == 503
        server = RedisServer(PROGRAMS["redis8"], port=port)
        try:
            server.start()
            until(lambda: running.get("/readyz")[0] == 200, "the store is found")
            until(lambda: is_hit(ask(running, "early")), "and used")
        finally:
            server.remove()
        assert ask(running, "early").status_code == 200


def test_without_the_keys_store_nobody_comes_in(tmp_path, provider):
    port = free_port()
    more = f'credential_env = "PROVIDERS_KEY"\n[access]\nkeys = "redis://127.0.0.1:{port}/0"'
    config = configured(tmp_path, provider.address, more)
    asked = provider.count
    with gateway(config, PROVIDERS_KEY="sk-house") as running:
        for secret in ("x", f"ask-{'a' * 8}-{'b' * 43}"):
            for path in (CHAT, "/v1/files", "/nowhere"):
                reply = ask(running, "closed", path, headers={"authorization": f"Bearer {secret}"})
                assert reply.status_code == (401 if secret == "x" else 503), reply.text
        assert running.get("/healthz")[0] == 200
    assert provider.count == asked
