"""Whether a request went out on a connection of its own or on one that was kept open.

A server may close an idle connection at any moment. A request that then fails before any answer
was not heard, and is sent again; on a new connection it may well have been.
"""

from collections.abc import Awaitable, Callable
from typing import Any

_OPENING = ".connect_"
"""Part of the names under which the libraries report that a connection is being opened."""


class Dialling:
    """Watch one request; `dialled` tells whether a connection was opened for it."""

    def __init__(self, request: Any) -> None:
        self.dialled = False
        self._then: Callable[[str, Any], Any] | None = request.extensions.get("trace")
        self._request = request

    def watch(self) -> "Dialling":
        """Watch a request that is sent by a sync transport."""

        def see(name: str, info: Any) -> None:
            self.dialled = self.dialled or _OPENING in name
            if self._then is not None:
                self._then(name, info)

        self._request.extensions["trace"] = see
        return self

    def watch_async(self) -> "Dialling":
        """Watch a request that is sent by an async transport."""

        async def see(name: str, info: Any) -> None:
            self.dialled = self.dialled or _OPENING in name
            if self._then is not None:
                told: Awaitable[Any] = self._then(name, info)
                await told

        self._request.extensions["trace"] = see
        return self
