"""What the tests of object stores share."""

import pathlib

from askonce import open_store
from askonce.stores.objects import ObjectStore

PATIENT = {"lookup_timeout": "60", "timeout": "60"}
"""Deadlines for tests that are not about them: the machine may be busy."""

VECTORS = {
    f"team/embedding/model/{number:064x}": bytes([number % 251]) * 6_000 for number in range(1_000)
}


def in_folder(folder: pathlib.Path) -> str:
    """Write the URL of a store in a folder."""
    return f"file+object:///{folder}?" + "&".join(f"{name}={PATIENT[name]}" for name in PATIENT)


def opened(url: str) -> ObjectStore:
    """Open a store without the guard around it, whose innards tests want to see."""
    return open_store(url).store
