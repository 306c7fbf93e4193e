"""Calls that only the type checkers read."""

from typing import Any, assert_type

import anthropic
import httpx
import httpx2
import openai

import askonce


def clients() -> None:
    """Take the clients where the SDKs want theirs."""
    assert_type(askonce.http_client("memory://"), httpx2.Client)
    assert_type(askonce.http_client("memory://", library="httpx2"), httpx2.Client)
    assert_type(askonce.http_client("memory://", library="httpx"), httpx.Client)
    assert_type(askonce.async_http_client("memory://"), httpx2.AsyncClient)
    assert_type(askonce.async_http_client("memory://", library="httpx"), httpx.AsyncClient)
    openai.OpenAI(http_client=askonce.http_client("memory://"))
    openai.AsyncOpenAI(http_client=askonce.async_http_client("memory://"))
    anthropic.Anthropic(http_client=askonce.http_client("memory://"))
    anthropic.AsyncAnthropic(http_client=askonce.async_http_client("memory://"))


def transports() -> None:
    """Put the transports into clients of one's own."""
    assert_type(askonce.transport("memory://"), httpx2.BaseTransport)
    assert_type(
        askonce.transport("memory://", httpx.HTTPTransport(), library="httpx"), httpx.BaseTransport
    )
    httpx2.Client(transport=askonce.transport("memory://", httpx2.HTTPTransport(retries=2)))
    httpx2.AsyncClient(transport=askonce.async_transport("memory://", ttl=60))
    httpx.AsyncClient(transport=askonce.async_transport("memory://", library="httpx"))


def good(reply: dict[str, Any]) -> bool:
    """Tell whether an answer may be kept."""
    return "choices" in reply


def rules() -> None:
    """Name all rules."""
    cache = askonce.HTTPCache(
        "memory://", isolate="credential", keep=good, namespace="n", ttl=60, ignored_headers=["x-a"]
    )
    askonce.http_client("memory://", keep={"length"}, wait=5, observe=print, max_age=None)
    with askonce.policy(ttl=None, tags=["a"], sample=3, keep={"length"}, only_if_cached=True):
        cache.retire("a", namespace="n")
    assert_type(cache.forget(httpx2.Request("POST", "https://h")), int)
    assert_type(cache.forget(url="https://h", headers={"a": "b"}, body={"model": "m"}), int)
    assert_type(askonce.cache_of(openai.OpenAI()), askonce.HTTPCache)


def mistakes() -> None:
    """See that these are found: an ignore that is not needed is an error, too."""
    askonce.http_client("memory://", unknown=1)  # type: ignore[call-overload]  # pyright: ignore
    askonce.http_client("memory://", library="aiohttp")  # type: ignore[call-overload]  # pyright: ignore
    askonce.HTTPCache("memory://", ttl="5")  # type: ignore[arg-type]  # pyright: ignore
    with askonce.policy(tag="a"):  # type: ignore[call-arg]  # pyright: ignore
        pass
