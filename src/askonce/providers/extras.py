"""Packages that are imported only when an embedder needs them."""

from importlib import import_module
from typing import Any

from askonce.errors import MissingExtraError


def import_extra(package: str, extra: str, purpose: str) -> Any:
    """Import a package. Raises MissingExtraError if it is not installed."""
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise MissingExtraError(package, extra, purpose) from None
