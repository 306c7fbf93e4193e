"""What the flows of HTTP call for, besides the steps of any flow."""

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from askonce.core.flow import Step
from askonce.http import passing

Answering = Generator[Step, Any, Any]


@dataclass(frozen=True, slots=True)
class Send:
    """Ask for a response to the caller's request, with this body: its own, or less of it.

    `keys` are those of the entries that the response may become.
    """

    content: bytes
    keys: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Drain:
    """Ask for all that is still to come of a response, as it comes, and let it go."""

    response: Any


@dataclass(frozen=True, slots=True)
class Close:
    """Ask to let a response go."""

    response: Any


Wish = Send | Drain | Close


@dataclass(frozen=True, slots=True)
class Library:
    """Make requests and responses of one HTTP library."""

    module: ModuleType
    replay: Callable[[Iterable[bytes]], Any]

    def outgoing(self, request: Any, content: bytes) -> Any:
        """Give a request as it goes on, with another body perhaps, less what is for the cache."""
        changed = content != request.content
        headers = passing.headers_passed_on(request.headers, concerned=True, of_body=not changed)
        # With its body as a stream no header is added but the one that we took away.
        if changed:
            headers.append((b"Content-Length", str(len(content)).encode()))
        going = self.module.Request(
            request.method,
            request.url,
            headers=headers,
            stream=self.module.ByteStream(content),
            extensions=request.extensions,
        )
        going.read()
        return going

    def reply(self, status: int, headers: passing.Headers, chunks: Iterable[bytes]) -> Any:
        """Make the response that answers a caller without the provider."""
        return self.response(status, headers, chunks)

    def response(self, status: int, headers: Any, chunks: Iterable[bytes], **rest: Any) -> Any:
        """Make a response that has not been read."""
        stream = self.replay(chunks)
        return self.module.Response(status, headers=headers, stream=stream, **rest)

    def decoded(self, headers: Any, chunks: Iterable[bytes]) -> Iterable[bytes]:
        """Undo the content encoding that headers name."""
        encoding = [("content-encoding", headers.get("content-encoding", ""))]
        pieces: Iterable[bytes] = self.response(200, encoding, chunks).iter_bytes()
        return pieces
