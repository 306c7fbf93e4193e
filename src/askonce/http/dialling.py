"""Whether a request that failed may have been heard.

A server may close an idle connection at any moment. A request that then fails before any answer
was not heard, and is sent again. On a new connection it may well have been, and where anything of
an answer has come, it was: the provider may be paid for it, and must not be asked once more.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

_OPENING: Final = ".connect_"
"""Part of the names under which the libraries report that a connection is being opened."""
_ANSWERED: Final = ".answer_begun"
"""Part of the name under which our own transport reports that it was answered, but not wholly."""
_NO_HEAD: Final = ".receive_response_headers.failed"


class Dialling:
    """Watch one request; `may_be_heard` tells whether the server may have begun to answer it."""

    def __init__(self, request: Any) -> None:
        self.may_be_heard = False
        self._then: Callable[[str, Any], Any] | None = request.extensions.get("trace")
        self._request = request

    def watch(self) -> "Dialling":
        """Watch a request that is sent by a sync transport."""

        def see(name: str, info: Any) -> None:
            self._note(name, info)
            if self._then is not None:
                self._then(name, info)

        self._request.extensions["trace"] = see
        return self

    def watch_async(self) -> "Dialling":
        """Watch a request that is sent by an async transport."""

        async def see(name: str, info: Any) -> None:
            self._note(name, info)
            if self._then is not None:
                told: Awaitable[Any] = self._then(name, info)
                await told

        self._request.extensions["trace"] = see
        return self

    def _note(self, name: str, info: Any) -> None:
        if _OPENING in name or _ANSWERED in name:
            self.may_be_heard = True
        elif name.endswith(_NO_HEAD):
            # It has a cause where a parser refuses what came, and none where nothing came.
            error = info.get("exception")
            is_of_parser = type(error).__name__ == "RemoteProtocolError"
            self.may_be_heard |= is_of_parser and error.__cause__ is not None
