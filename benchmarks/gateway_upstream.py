"""A provider on this machine: every answer carries the digest of its question.

    python -m benchmarks.gateway_upstream PORT

It answers chats, streams and embeddings as its settings say (`POST /settings` changes them), fails
by chance as often as they say, and counts what it was asked (`GET /counts`).
"""

import asyncio
import hashlib
import json
import os
import random
import sys
from collections import Counter
from typing import Any

from benchmarks.gateway_serving import serve

WORDS = "Sunlight is scattered by the air, and blue more than red. " * 20
DIMENSIONS = 64
JSON = [(b"content-type", b"application/json")]
EVENTS = [(b"content-type", b"text/event-stream")]

settings: dict[str, Any] = {
    "delay": 0.0,  # seconds before an answer begins
    "events": 20,  # of a stream
    "pause": 0.0,  # seconds between two events
    "faults": {},  # how often each comes: shares of all requests
}
counts: Counter[str] = Counter()


class CutError(Exception):
    """Break the connection off: uvicorn does so where an application fails."""


def digest(question: str) -> str:
    return hashlib.sha256(question.encode()).hexdigest()


def answer_to(question: str, words: str = WORDS) -> str:
    """Give the text of the answer to a question."""
    return f"{digest(question)} {words}"


def vector_of(text: str) -> list[float]:
    """Give the vector of a text: numbers that float32 holds exactly."""
    raw = hashlib.sha512(text.encode()).digest()
    return [(byte - 128) / 128 for byte in raw[:DIMENSIONS]]


def completion(question: str) -> bytes:
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": answer_to(question)},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 100, "completion_tokens": 300, "total_tokens": 400},
    }
    return json.dumps(body).encode()


def event(delta: dict[str, str], finish: str | None = None) -> bytes:
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def events(question: str, number: int) -> list[bytes]:
    """Give a streamed answer in so many events with content."""
    text = answer_to(question)
    size = -(-len(text) // number)
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    return [
        event({"role": "assistant", "content": ""}),
        *(event({"content": piece}) for piece in pieces),
        event({}, "stop"),
        b"data: [DONE]\n\n",
    ]


async def application(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    content = b""
    more = True
    while more:
        message = await receive()
        content += message.get("body", b"")
        more = message.get("more_body", False)
    if scope["method"] == "POST" and scope["path"] == "/settings":
        settings.update(json.loads(content))
        await reply(send, 200, settings)
    elif scope["path"] == "/counts":
        await reply(send, 200, counts)
    elif scope["path"] == "/v1/models":
        await reply(send, 200, {"object": "list", "data": []})
    else:
        counts["requests"] += 1
        fault = chance()
        if fault:
            counts[fault] += 1
        asked = json.loads(content)
        if settings["delay"]:
            await asyncio.sleep(settings["delay"])
        if fault in ("429", "500"):
            await reply(send, int(fault), {"error": {"message": "injected", "code": fault}})
        elif fault == "hang":
            while (await receive())["type"] != "http.disconnect":
                pass
        elif scope["path"].endswith("/embeddings"):
            await embed(send, asked["input"], cut=fault == "cut")
        elif asked.get("stream"):
            await stream(send, asked["messages"][-1]["content"], cut=fault == "cut")
        else:
            await whole(send, completion(asked["messages"][-1]["content"]), cut=fault == "cut")


def chance() -> str:
    drawn = random.random()
    for fault, share in settings["faults"].items():
        drawn -= share
        if drawn < 0:
            return str(fault)
    return ""


async def reply(send: Any, status: int, body: Any) -> None:
    content = json.dumps(body).encode()
    headers = [*JSON, (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


async def embed(send: Any, texts: list[str], *, cut: bool) -> None:
    data = [
        {"object": "embedding", "index": place, "embedding": vector_of(text)}
        for place, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": len(data), "total_tokens": len(data)}
    body = {"object": "list", "model": "m", "data": data, "usage": usage}
    await whole(send, json.dumps(body).encode(), cut=cut)


async def whole(send: Any, content: bytes, *, cut: bool) -> None:
    headers = [*JSON, (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if cut:
        await send({"type": "http.response.body", "body": content[:300], "more_body": True})
        raise CutError
    await send({"type": "http.response.body", "body": content})


async def stream(send: Any, question: str, *, cut: bool) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": EVENTS})
    pieces = events(question, settings["events"])
    for place, piece in enumerate(pieces):
        if place and settings["pause"]:
            await asyncio.sleep(settings["pause"])
        if cut and place == len(pieces) // 2:
            raise CutError
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def main() -> None:
    random.seed(int(os.environ.get("SEED", "1")))
    serve(
        application,
        int(sys.argv[1]),
        timeout_keep_alive=int(os.environ.get("KEEP_ALIVE", "75")),
        timeout_graceful_shutdown=1,
    )


if __name__ == "__main__":
    main()
