"""Stores named on the command line."""

from pathlib import Path

from askonce.core.store import Store
from askonce.errors import InputError
from askonce.stores import Location, open_store


def path_of(url: str) -> Path | None:
    """Give the path a store's URL leads to on this machine, None if it is none.

    Raises InputError for what is no store URL.
    """
    location = Location.of(url)
    return location.file_path() if location.path.startswith("/") else None


def open_existing(url: str) -> Store:
    """Open a store to look at it, without making one where there is none.

    Raises InputError if there is none, and what `open_store` raises.
    """
    path = path_of(url)
    if path is not None and not path.exists():
        raise InputError(f"there is no store at {path.absolute()}; check the path in {url!r}")
    return open_store(url)


def size(count: float) -> str:
    """Write a number of bytes for people, in binary units."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
