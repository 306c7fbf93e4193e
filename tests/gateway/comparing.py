"""A client that asks a provider itself, and then twice through a gateway, and what differs.

Clients are pointed at either by the environment, as the guide has it.
"""

import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import pytest

MODEL = "smollm2-135m-instruct"
QUESTION = "Say hello in three words."

OF_THE_RUN = frozenset(
    {
        "id",
        "item_id",
        "created",
        "created_at",
        "completed_at",
        "timings",
        # The model server keeps what it has read of a prompt.
        "prompt_tokens_details",
        "input_token_details",
        "input_tokens_details",
        "cache_read_input_tokens",
        "cache_read_tokens",
        "cached_tokens",
        "input_tokens",
    }
)
"""What a model server says differently each time it says the same."""


def said(value: Any, less: Collection[str] = OF_THE_RUN) -> Any:
    """Give an answer, as JSON has it, without the fields of some names."""
    if isinstance(value, dict):
        return {name: said(part, less) for name, part in value.items() if name not in less}
    return [said(part, less) for part in value] if isinstance(value, list) else value


@dataclass
class Sides:
    """Hold the address of a provider, that of a gateway before it, and count what is asked."""

    direct: str
    through: str
    count: Callable[[], int]


class Comparison:
    """Ask on both sides, with a credential of its own."""

    def __init__(self, sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sides = sides
        self.key = f"sk-{uuid.uuid4().hex}"
        self._set = monkeypatch.setenv
        self.point(sides.through)

    def point(self, address: str) -> None:
        """Have clients ask at an address from now on."""
        self._set("OPENAI_BASE_URL", f"{address}/v1")
        self._set("ANTHROPIC_BASE_URL", address)
        for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
            self._set(name, self.key)

    def __call__(self, ask: Callable[[], Any], *, own: Collection[str] = (), asks: int = 1) -> Any:
        """Ask the provider, then twice through the gateway: all three must be the same.

        The last two to the last field but those that the client itself makes up (`own`). Gives the
        answer through the gateway, for which the provider heard `asks` requests.
        """
        self.point(self.sides.direct)
        direct = ask()
        self.point(self.sides.through)
        before = self.sides.count()
        first = ask()
        assert self.sides.count() == before + asks
        second = ask()
        assert self.sides.count() == before + asks
        assert said(first) == said(direct)
        assert said(second, own) == said(first, own)
        return first

    def asked_by(self, ask: Callable[[], Any]) -> tuple[int, Any]:
        """Tell how many requests the provider hears for one call, and the answer."""
        before = self.sides.count()
        answer = ask()
        return self.sides.count() - before, answer
