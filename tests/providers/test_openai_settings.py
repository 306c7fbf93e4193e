"""What an embedder may be set to."""

import asyncio

import numpy as np
import openai
import pytest

from askonce import InputError
from askonce.providers import OpenAIEmbedder
from tests.providers.fault_server import Hang, vectors_of


class TestSettings:
    def test_no_key_goes_to_an_address_it_was_not_meant_for(self, make, server, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", "secret")
        make()(["a"])
        make(api_key="given")(["a"])
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        make(base_url=None)(["a"])
        assert [headers["authorization"] for headers in server.headers] == [
            "Bearer none",
            "Bearer given",
            "Bearer secret",
        ]

    def test_providers_are_told_apart(self, make, server):
        assert make().parameters == {"provider": f"127.0.0.1:{server.server_port}/v1"}
        assert make(provider="mine").parameters == {"provider": "mine"}
        assert make(extra_body={"a": 1}, provider="mine").parameters == {
            "provider": "mine",
            "extra_body": {"a": 1},
        }
        with OpenAIEmbedder("m", api_key="k") as embedder:
            assert embedder.parameters == {"provider": "api.openai.com/v1"}
            assert embedder.batch_size == 4096

    def test_azure(self, server, ask):
        with openai.AzureOpenAI(
            azure_endpoint=server.base_url.removesuffix("/v1"), api_key="k", api_version="v"
        ) as client:
            embedder = OpenAIEmbedder("deployed", client=client)
            np.testing.assert_array_equal(ask(embedder, ["a"]), vectors_of(["a"]))
        assert server.paths == ["/openai/deployments/deployed/embeddings?api-version=v"]

    async def test_an_async_client_of_ones_own(self, server):
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key="k") as async_client:
            with openai.OpenAI(base_url=server.base_url, api_key="k") as client:
                embedder = OpenAIEmbedder("m", client=client, async_client=async_client)
                rows = await embedder.aembed(["a"])
        np.testing.assert_array_equal(rows, vectors_of(["a"]))

    async def test_closing(self, server):
        async with OpenAIEmbedder("m", base_url=server.base_url) as embedder:
            await embedder.aembed(["a"])
        assert embedder._client.is_closed()

    async def test_cancelling(self, make, server):
        server.rule = lambda body: Hang
        embedder = make()
        task = asyncio.create_task(embedder.aembed(["a"]))
        while not server.bodies:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await embedder.aclose()

    @pytest.mark.parametrize(
        "settings",
        [
            {"model": ""},
            {"dimensions": 0},
            {"max_inputs": 0},
            {"max_tokens": -1},
            {"concurrency": 0},
            {"requests_per_minute": 0},
            {"timeout": 0},
            {"attempts": 0},
            {"async_client": object()},
            {"client": object(), "base_url": "http://x"},
        ],
        ids="-".join,
    )
    def test_settings_that_cannot_be_used(self, settings):
        with pytest.raises(InputError):
            OpenAIEmbedder(**{"model": "m"} | settings)
