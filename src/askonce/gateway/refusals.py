"""What the gateway itself says no to, in a body that the SDKs of all providers understand."""

from collections.abc import Iterable
from typing import Final

from askonce.wire import write_body

Headers = list[tuple[bytes, bytes]]

_OUTCOME: Final = b"askonce; detail="


class RefusedError(Exception):
    """Say that a request is answered with an error of the gateway's own."""

    def __init__(
        self, status: int, message: str, code: str, headers: Iterable[tuple[bytes, bytes]] = ()
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers = tuple(headers)


def written(refused: RefusedError) -> tuple[Headers, bytes]:
    """Write a refusal: OpenAI's SDKs read `error.message` and `.code`, Anthropic's `.type` too."""
    error = {"type": refused.code, "message": f"askonce: {refused.message}", "code": refused.code}
    body = write_body({"type": "error", "error": error})
    headers: Headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-status", _OUTCOME + refused.code.encode("ascii")),
        *refused.headers,
    ]
    if refused.status in (408, 409, 429) or refused.status >= 500:
        return headers, body
    # The SDKs would try again, and wait between tries.
    return [*headers, (b"x-should-retry", b"false")], body
