"""The clients are made like those that the SDKs make for themselves."""

import asyncio
import importlib
import subprocess
import sys

import httpx2
import pytest

import askonce
from askonce.http.clients import proxies
from tests.http.askers import CHAT, body
from tests.http.server import chat, head

VARIABLES = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"]


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


ENVIRONMENTS = [
    {},
    {"HTTP_PROXY": "http://proxy:1"},
    {"http_proxy": "proxy:1", "https_proxy": "http://user:word@proxy:2"},
    {"ALL_PROXY": "http://proxy:3", "NO_PROXY": "localhost,127.0.0.1, .example.com,example.org"},
    {"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "::1,[::2],*.example.com,https://a.example.com"},
    {"HTTP_PROXY": "http://proxy:1", "NO_PROXY": "a,*"},
    {"HTTP_PROXY": "http://proxy:1", "NO_PROXY": "192.168.0.0/16,Localhost,,"},
]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_proxies_are_those_that_the_libraries_use(monkeypatch, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxies() == importlib.import_module("httpx2._utils").get_environment_proxies()


@pytest.mark.parametrize("library", ["httpx2", "httpx"])
def test_requests_go_through_the_proxy_and_are_cached(provider, monkeypatch, library):
    monkeypatch.setenv("HTTP_PROXY", provider.address)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    url = "http://api.example.com" + CHAT
    with askonce.http_client("memory://", library=library) as client:
        for _ in range(2):
            assert client.post(url, json=body()).status_code == 200
        assert [asked.target for asked in provider.asked] == [url]
        assert client.post(provider.address + CHAT, json=body()).status_code == 200
        assert provider.asked[1].target == CHAT


@pytest.mark.parametrize("library", ["httpx2", "httpx"])
def test_async_requests_go_through_the_proxy_and_are_cached(provider, monkeypatch, library):
    monkeypatch.setenv("ALL_PROXY", provider.address)
    url = "http://api.example.com" + CHAT

    async def run():
        async with askonce.async_http_client("memory://", library=library) as client:
            for _ in range(2):
                assert (await client.post(url, json=body())).status_code == 200

    asyncio.run(run())
    assert [asked.target for asked in provider.asked] == [url]


def test_redirects_are_followed_and_the_answer_is_kept_where_it_is(provider):
    def moved(asked):
        if asked.target.startswith("/old"):
            return [head(307, ("Location", CHAT), ("Content-Length", "0"))]
        return chat(asked)

    provider.answer = moved
    with askonce.http_client("memory://") as client:
        for _ in range(2):
            assert client.post(provider.address + "/old" + CHAT, json=body()).status_code == 200
        kept = client.post(provider.address + CHAT, json=body())
        assert kept.headers["cache-status"] == "askonce; hit"
    assert [asked.target for asked in provider.asked] == ["/old" + CHAT, CHAT, "/old" + CHAT]


def test_httpx2_is_taken_if_it_is_there():
    with askonce.http_client("memory://") as client:
        assert type(client) is httpx2.Client


MISSING = """
import sys
sys.modules["httpx2"] = sys.modules["httpx"] = None
import askonce
try:
    askonce.http_client("memory://")
except ImportError as error:
    print(error)
sys.modules.pop("httpx")
print(type(askonce.http_client("memory://")).__module__)
"""


def test_a_missing_library_is_named_and_the_other_one_taken():
    done = subprocess.run([sys.executable, "-c", MISSING], capture_output=True, text=True, check=True)
    said, module = done.stdout.splitlines()
    assert "pip install 'askonce[http]'" in said
    assert module == "httpx"


def test_importing_askonce_imports_no_http_library():
    code = "import sys, askonce; print({'httpx', 'httpx2', 'httpcore', 'httpcore2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
