"""What a gateway is told: defaults, files, errors that name line and key."""

import pytest

from askonce import InputError
from askonce.gateway.config import Config, Upstream, line_of, load
from askonce.gateway.handling import _models_of
from askonce.gateway.routes import NotRoutedError, Routes, check_path, path_at

GOOD = """
# A comment
access_log = false

[server]
port = 9000
workers = 3

[cache]
store = "memory://"
stale_if_error = 3600

[[upstreams]]
name = "openai"
base_url = "https://api.openai.com/v1/"
paths = ["/v1/*"]
headers = { x-team = "search" }

[[upstreams]]
name = "local"
base_url = "http://127.0.0.1:8080"
models = ["llama*"]

[[rules]]
models = ["gpt-4*"]
ttl = 60
"""


def written(tmp_path, text):
    path = tmp_path / "askonce.toml"
    path.write_text(text)
    return path


def test_nothing_told_is_enough():
    config = load(None)
    assert config.server.is_loopback
    assert [one.name for one in config.upstreams] == ["anthropic", "openai"]


def test_a_file_is_read_and_flags_stand_above_it(tmp_path):
    config = load(written(tmp_path, GOOD), {"server": {"port": 1}, "cache": {"ttl": 5}})
    assert (config.server.port, config.server.workers) == (1, 3)
    assert config.cache.wishes() == {"stale_if_error": 3600, "ttl": 5}
    assert config.upstreams[0].base_url == "https://api.openai.com/v1"
    assert config.rules[0].wishes() == {"ttl": 60}


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("port = 9000", "port = 99999", "line 6: server.port: "),
        ("workers = 3", "worker = 3", "line 7: server.worker: there is no such key"),
        ("ttl = 60", "ttl = -1", "line 26: rules.0.ttl: "),
        ('base_url = "http://127.0.0.1:8080"', 'base_url = "ftp://x"', "line 21: upstreams.1.base"),
        ('base_url = "http://127.0.0.1:8080"', 'base_url = "http://a@b/"', "line 21: upstreams.1"),
        ('name = "local"', 'name = "openai"', "two upstreams are called 'openai'"),
        ('name = "local"', 'name = "Lo/cal"', "line 20: upstreams.1.name"),
        ("port = 9000", 'port = 9000\nhost = "0.0.0.0"', "can be reached from other machines"),
        ("port = 9000", 'port = 9000\ntls_key = "k"', "belong together"),
        ("[[rules]]", '[[rules]]\nupstreams = ["x"]', "a rule names the upstream 'x'"),
        ("[server]", "[server", "(at line 5, column 8)"),
        ('store = "memory://"', "store = 3", "line 10: cache.store"),
        ("models = [\"llama*\"]", 'credential_env = "ASKONCE_NO_SUCH"', "$ASKONCE_NO_SUCH"),
    ],
)
def test_what_is_wrong_is_told_with_line_and_key(tmp_path, before, after, told):
    assert before in GOOD
    with pytest.raises(InputError) as caught:
        load(written(tmp_path, GOOD.replace(before, after, 1)))
    assert told in str(caught.value)


def test_all_that_is_wrong_is_told_at_once(tmp_path):
    text = GOOD.replace("port = 9000", "port = 'x'").replace("ttl = 60", "ttl = 'x'")
    with pytest.raises(InputError) as caught:
        load(written(tmp_path, text))
    assert "server.port" in str(caught.value)
    assert "rules.0.ttl" in str(caught.value)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(InputError, match="cannot read .*none.toml"):
        load(tmp_path / "none.toml")


def test_without_keys_only_this_machine_gets_in(tmp_path):
    for host in ("0.0.0.0", "::", "192.168.1.2", "example.com"):
        with pytest.raises(InputError, match="keys"):
            load(None, {"server": {"host": host}})
        assert load(None, {"server": {"host": host}, "access": {"keys": "memory://"}})
    for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost"):
        assert load(None, {"server": {"host": host}}).server.is_loopback


def test_all_models_that_a_request_names_are_found():
    body = b'{"model": "a", "models": ["b", 3, "c"]}'
    assert _models_of(body, "/v1/chat/completions") == ("a", "b", "c")
    path = "/openai/deployments/d%2D1/chat/completions"
    assert _models_of(b"{}", path) == ("d-1",)
    assert _models_of(body, path)[0] == "d-1"
    assert _models_of(b'{"model": "a", "model": "b"}', "/v1/chat/completions") == ("",)


def test_lines_are_found():
    assert line_of(GOOD, ("server", "port")) == 6
    assert line_of(GOOD, ("upstreams", 1, "models", 0)) == 22
    assert line_of(GOOD, ("upstreams", 0, "headers", "x-team")) == 17
    assert line_of("", ("server", "port")) is None


@pytest.mark.parametrize(
    ("path", "headers", "model", "where"),
    [
        ("/v1/chat/completions", [], "gpt-5", "https://api.openai.com/v1/chat/completions"),
        ("/v1/messages", [], "claude", "https://api.anthropic.com/v1/messages"),
        ("/v1/messages/count_tokens", [], "", "https://api.anthropic.com/v1/messages/count_tokens"),
        ("/v1/models", ["anthropic-version"], "", "https://api.anthropic.com/v1/models"),
        ("/v1/models", [], "", "https://api.openai.com/v1/models"),
        ("/openai/v1/models", ["anthropic-version"], "", "https://api.openai.com/v1/models"),
        ("/anthropic/v1/models", [], "", "https://api.anthropic.com/v1/models"),
    ],
)
def test_requests_find_their_upstream(path, headers, model, where):
    target = Routes(Config().upstreams).find(path, headers, model)
    upstream = target.upstream
    origin = "/".join(upstream.base_url.split("/")[:3])
    assert origin + target.path == where


def test_a_model_decides_before_a_path(tmp_path):
    routes = Routes(load(written(tmp_path, GOOD)).upstreams)
    assert routes.find("/v1/chat/completions", [], "llama-3").upstream.name == "local"
    assert routes.find("/v1/chat/completions", [], "gpt").upstream.name == "openai"
    assert routes.find("/openai/v1/chat/completions", [], "llama-3").upstream.name == "openai"


@pytest.mark.parametrize("path", ["/", "/v2/x", "/openai", "/v1", "/openaiv1/models"])
def test_nothing_else_leads_anywhere(path):
    with pytest.raises(NotRoutedError):
        Routes(Config().upstreams).find(path, [], "")


@pytest.mark.parametrize(
    ("base", "path", "there"),
    [
        ("http://h", "/v1/models", "/v1/models"),
        ("http://h/v1", "/v1/models", "/v1/models"),
        ("http://h/openai/v1", "/v1/models", "/openai/v1/models"),
        ("http://h/v1", "/v1beta/models/g:generateContent", "/v1/v1beta/models/g:generateContent"),
        ("http://h", "/v1beta/models/g:generateContent", "/v1beta/models/g:generateContent"),
    ],
)
def test_a_base_may_hold_the_version(base, path, there):
    assert path_at(Upstream(name="a", base_url=base), path) == there


@pytest.mark.parametrize(
    "path",
    "/a//b //a /a/../b /a/. /.. /a/%2e%2e/b /a%2Fb /a%5cb /a\\b /a%00 /a%0d%0a /a%252e /a% /a%g1"
    " /\N{LATIN SMALL LETTER E WITH ACUTE} a".split(),
)
def test_paths_that_could_mean_another_are_refused(path):
    with pytest.raises(NotRoutedError):
        check_path(path, "")


@pytest.mark.parametrize(
    "path", "/v1/models /v1/models/org%20a /v1beta/models/g:generateContent /v1/f/a.b..c".split()
)
def test_plain_paths_pass(path):
    check_path(path, "key=a%2fb&alt=sse")
