"""Stores named on the command line."""

from pathlib import Path

from askonce.core.store import Store
from askonce.errors import InputError
from askonce.stores import AT_HAND, SCHEMES, Location, open_store

_LAYERS = ("encrypted", "tiered")


def path_of(url: str) -> Path | None:
    """Give the path a store's URL leads to on this machine, None if it is none.

    Raises InputError for what is no store URL.
    """
    location = Location.of(url)
    layer, _, below = location.scheme.partition("+")
    kind = below if layer in _LAYERS else location.scheme
    is_remote = kind in SCHEMES and kind not in AT_HAND
    return None if is_remote or not location.path.startswith("/") else location.file_path()


def apart(source: str, target: str) -> None:
    """Refuse to write into what is being read. Raises InputError."""
    here, there = path_of(source), path_of(target)
    if here is not None and there is not None:
        here, there = here.resolve(), there.resolve()
        inside = here == there or here in there.parents
    else:
        inside = source == target and Location.of(source).scheme != "memory"
    if inside:
        raise InputError(
            f"{Location.of(target).shown!r} lies in what is copied from, which is only read; "
            "give it a place of its own"
        )


def open_existing(url: str) -> Store:
    """Open a store to look at it, without making one where there is none.

    Raises InputError if there is none, and what `open_store` raises.
    """
    path = path_of(url)
    # The near store of tiers need not be there: what it holds is elsewhere, too.
    may_begin = Location.of(url).scheme.startswith("tiered+")
    if path is not None and not may_begin and not path.exists():
        shown = Location.of(url).shown
        raise InputError(f"there is no store at {path.absolute()}; check the path in {shown!r}")
    return open_store(url)


def size(count: float) -> str:
    """Write a number of bytes for people, in binary units."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
