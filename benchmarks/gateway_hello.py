"""A bare ASGI application that says one thing, whatever it is asked: what no gateway goes below.

    python -m benchmarks.gateway_hello PORT

What it says is in the file that HELLO names: headers, and the chunks of the body.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from benchmarks.gateway_serving import serve

_said = json.loads(Path(os.environ["HELLO"]).read_text())
_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(name.encode(), value.encode()) for name, value in _said["headers"]],
}
_CHUNKS = [chunk.encode() for chunk in _said["chunks"]]


async def whole(scope: Any, receive: Any, send: Any) -> None:
    await send(_START)
    await send({"type": "http.response.body", "body": _CHUNKS[0]})


async def stream(scope: Any, receive: Any, send: Any) -> None:
    await send(_START)
    for chunk in _CHUNKS:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


application = whole if len(_CHUNKS) == 1 else stream


def main() -> None:
    serve(application, int(sys.argv[1]), timeout_keep_alive=75, limit_concurrency=10_000)


if __name__ == "__main__":
    main()
