"""What decides whether a store is one: a suite to inherit from and a state machine."""

from askonce.errors import MissingExtraError

try:
    import pytest

    pytest.register_assert_rewrite("askonce.testing.stores", "askonce.testing.state_machine")
    from askonce.testing.state_machine import StoreMachine, run_store_machine
    from askonce.testing.stores import Opener, Raw, StoreTests
except ModuleNotFoundError as error:
    if error.name not in {"hypothesis", "pytest"}:
        raise
    raise MissingExtraError(error.name, "testing", "askonce.testing") from error

__all__ = ["Opener", "Raw", "StoreMachine", "StoreTests", "run_store_machine"]
