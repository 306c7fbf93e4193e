"""How the store under test is opened, and how all that it keeps is read beside it."""

from collections.abc import Callable, Mapping

from askonce.core.store import Store

Opener = Callable[[], Store]
"""Opens the store of one test, empty at first; called again, it opens the same one again.

A store that lives and dies with its instance gives that instance each time.
"""

Raw = Callable[[], Mapping[str, bytes]]
"""Reads all that a store keeps, beside the store under test."""
