"""Fixtures: a gateway before a real model and before a provider that calls tools."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.gateway import tool_provider
from tests.gateway.comparing import Comparison, Sides
from tests.gateway.running import gateway
from tests.http import server as servers


@dataclass
class Scene:
    """Hold a gateway before a real model and before a provider that calls tools."""

    model: Sides
    tools: Sides


@pytest.fixture(scope="session")
def scene(llm_server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    root = llm_server.base_url.removesuffix("/v1")
    with servers.running(tool_provider.answer) as tools:
        config = _configured(tmp_path_factory.mktemp("clients"), root, tools.address)
        with gateway(config) as running:
            yield Scene(
                Sides(
                    root,
                    running.address,
                    lambda: llm_server.requests() - llm_server.requests("/v1/models"),
                ),
                Sides(
                    tools.address,
                    f"{running.address}/tools",
                    lambda: sum(asked.method == "POST" for asked in tools.asked),
                ),
            )


def _configured(folder: Path, model: str, tools: str) -> Path:
    """Write the gateway's own defaults, but for the addresses, and a third upstream."""
    path = folder / "askonce.toml"
    path.write_text(
        f"""
[cache]
store = "sqlite:///{folder}/gateway.db"

[[upstreams]]
name = "anthropic"
base_url = "{model}"
paths = ["/v1/messages", "/v1/messages/*"]
marks = ["anthropic-version"]
check = "/v1/models"

[[upstreams]]
name = "openai"
base_url = "{model}/v1"
paths = ["/v1/*"]
check = "/v1/models"

[[upstreams]]
name = "tools"
base_url = "{tools}"
check = "/v1/models"
"""
    )
    return path


@pytest.fixture
def compare(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Comparison:
    """Compare what a real model says."""
    return Comparison(scene.model, monkeypatch)


@pytest.fixture
def compare_tools(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Comparison:
    """Compare how tools are called."""
    return Comparison(scene.tools, monkeypatch)
