"""What the flows of HTTP call for, besides the steps of any flow."""

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from askonce.core.flow import Call, Step
from askonce.http import passing

Answering = Generator[Step, Any, Any]


@dataclass(frozen=True, slots=True)
class Send:
    """Ask for a response to this request."""

    request: Any


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

    def ask(self, request: Any, content: bytes) -> Answering:
        """Send a request on, with another body perhaps, less what is meant for the cache."""
        changed = content != request.content
        headers = passing.headers_passed_on(request.headers, concerned=True, of_body=not changed)
        # With its body as a stream no header is added but the one that we took away.
        if changed:
            headers.append((b"Content-Length", str(len(content)).encode()))
        on_its_way = self.module.Request(
            request.method,
            request.url,
            headers=headers,
            stream=self.module.ByteStream(content),
            extensions=request.extensions,
        )
        on_its_way.read()
        return (yield Call(Send(on_its_way)))

    def response(self, status: int, headers: Any, chunks: Iterable[bytes], **rest: Any) -> Any:
        """Make a response that has not been read."""
        stream = self.replay(chunks)
        return self.module.Response(status, headers=headers, stream=stream, **rest)

    def decoded(self, headers: Any, chunks: Iterable[bytes]) -> Iterable[bytes]:
        """Undo the content encoding that headers name."""
        encoding = [("content-encoding", headers.get("content-encoding", ""))]
        pieces: Iterable[bytes] = self.response(200, encoding, chunks).iter_bytes()
        return pieces
