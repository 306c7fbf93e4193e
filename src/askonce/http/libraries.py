"""The HTTP libraries that we work with, whichever is installed."""

import importlib
from types import ModuleType

from askonce.errors import InputError, MissingExtraError

NAMES = ("httpx2", "httpx")


def find(name: str | None = None) -> ModuleType:
    """Give a library by its name, or the first that is installed.

    Raises InputError for another name, MissingExtraError if there is none.
    """
    if name is not None and name not in NAMES:
        raise InputError(f"library is {name!r}; it is 'httpx2' or 'httpx'")
    for candidate in (name,) if name else NAMES:
        try:
            return importlib.import_module(candidate)
        except ImportError:
            continue
    wanted = name or NAMES[0]
    extra = "httpx" if wanted == "httpx" else "http"
    raise MissingExtraError(wanted, extra, "an HTTP client that caches")
