"""What decides whether a store is one, and what pytest replays models' answers with.

The suite is imported when first used: pytest loads the plugin wherever askonce is installed, and
the plugin needs no Hypothesis.
"""

import importlib
from typing import TYPE_CHECKING, Any

from askonce.errors import MissingExtraError

if TYPE_CHECKING:
    from askonce.testing.state_machine import StoreMachine, run_store_machine
    from askonce.testing.store_openers import Opener, Raw
    from askonce.testing.stores import StoreTests

__all__ = ["Opener", "Raw", "StoreMachine", "StoreTests", "run_store_machine"]

_HOMES = {
    "Opener": "askonce.testing.store_openers",
    "Raw": "askonce.testing.store_openers",
    "StoreMachine": "askonce.testing.state_machine",
    "StoreTests": "askonce.testing.stores",
    "run_store_machine": "askonce.testing.state_machine",
}

_PARTS = [f"askonce.testing.store_{part}" for part in ("callers", "prefixes", "upkeep", "verbs")]
"""What `StoreTests` is made of: assertions that pytest explains where they fail."""


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import pytest  # noqa: PLC0415  an extra, like Hypothesis

        pytest.register_assert_rewrite(*sorted({*_HOMES.values(), *_PARTS}))
        return getattr(importlib.import_module(home), name)
    except ModuleNotFoundError as error:
        if error.name not in {"hypothesis", "pytest"}:
            raise
        raise MissingExtraError(error.name, "testing", "askonce.testing") from error
