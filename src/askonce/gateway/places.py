"""Where a gateway keeps things if it is not told: in the user's data folder."""

import urllib.parse
from pathlib import Path
from typing import Any

from askonce.providers.extras import import_extra


def default_store_url() -> str:
    """Give the store of answers. Raises MissingExtraError."""
    return _url("gateway.db")


def default_keys_url() -> str:
    """Give the store of keys. Raises MissingExtraError.

    It is apart from every cache, so that eviction, prune and clear never touch it.
    """
    return _url("keys.db")


def _url(name: str) -> str:
    platformdirs: Any = import_extra("platformdirs", "gateway", "the gateway's default stores")
    path = Path(platformdirs.user_data_path("askonce", appauthor=False)) / name
    return f"sqlite:///{urllib.parse.quote(path.as_posix())}"
