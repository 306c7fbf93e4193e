"""A provider with canned answers, behind our transports: what a small model cannot be made to say."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import httpx2

import askonce


class Provider:
    """Answer one request after the other with the given bodies, and keep what was received."""

    base_url = "http://provider/v1"

    def __init__(self, *answers: Mapping[str, object]) -> None:
        self._answers = iter(answers)
        self.received: list[Mapping[str, object]] = []

    def client(self, store: str, library: Any = httpx2, **rules) -> Any:
        """Make a client that asks this provider once."""
        inner = library.MockTransport(self._answers_of(library))
        transport = askonce.transport(store, inner, library=library.__name__, **rules)
        return library.Client(transport=transport)

    def async_client(self, store: str, library: Any = httpx2, **rules) -> Any:
        """Make an async client that asks this provider once."""
        inner = library.MockTransport(self._answers_of(library))
        transport = askonce.async_transport(store, inner, library=library.__name__, **rules)
        return library.AsyncClient(transport=transport)

    def _answers_of(self, library: Any) -> Callable[[Any], Any]:
        def answer(request):
            self.received.append(json.loads(request.content))
            content = json.dumps(next(self._answers)).encode()
            headers = {"content-type": "application/json"}
            # As a stream, like what comes over a network: an answer already read is not recorded.
            return library.Response(200, headers=headers, stream=library.ByteStream(content))

        return answer


def tool_call(name: str, arguments: object) -> dict[str, object]:
    """Give a message that calls a tool."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    calls = [{"id": f"call_{name}", "type": "function", "function": function}]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def chat_answer(message: Mapping[str, object]) -> dict[str, object]:
    """Give a chat completion with this message."""
    reason = "tool_calls" if message.get("tool_calls") else "stop"
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1750000000,
        "model": "m",
        "choices": [{"index": 0, "message": dict(message), "finish_reason": reason}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14},
    }
