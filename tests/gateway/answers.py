"""What a provider sends, in the formats of all paths; each answer is marked with its question."""

import base64
import json
import random
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.gateway.questions import Question

MARK = re.compile(rb"D([0-9a-f]{24})N([0-9a-f]{8})Z")
FILLER = " lorem ipsum \u00e9\u4e16\U0001f600 \\ \" \u2028 data: [DONE] \n\n "
DIMENSIONS = 8


class Fault:
    """Be what a connection does instead of going on."""

    RESET = "reset"
    HANG = "hang"


Piece = bytes | str


@dataclass
class Response:
    """Hold what a provider sends: bytes, or a Fault.

    `nonce` tells it from all others. `is_good` tells whether it may be kept, None if it does not
    matter; `status` is what its head says, 0 if it has none.
    """

    pieces: list[Piece]
    nonce: str
    is_good: bool | None
    status: int
    closes: bool = False
    payload: bytes = b""
    vectors: dict[str, list[float]] = field(default_factory=dict)


def embeddings(question: Question, nonce: str) -> tuple[bytes, dict[str, list[float]]]:
    """Answer a batch: the vector of each input tells the input and the answer's nonce."""
    fields = question.fields
    given = fields.get("input")
    if isinstance(given, list) and given and not isinstance(given[0], int):
        inputs = given
    else:
        inputs = [given]
    vectors: dict[str, list[float]] = {}
    data = []
    for index, content in enumerate(inputs):
        digest = question.digest_of(content)
        vector = vector_of(digest, nonce)
        vectors[digest] = vector
        told: Any = vector
        if fields.get("encoding_format") == "base64":
            told = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
        data.append({"object": "embedding", "index": index, "embedding": told})
    usage = {"prompt_tokens": len(inputs), "total_tokens": len(inputs)}
    body = {"object": "list", "data": data, "model": "m-1", "usage": usage}
    return json.dumps(body).encode(), vectors


def vector_of(digest: str, nonce: str) -> list[float]:
    """Write a digest and a nonce as numbers that float32 holds exactly."""
    told = bytes.fromhex(digest)[:DIMENSIONS] + bytes.fromhex(nonce)
    return [byte / 256 for byte in told]


def read_vector(vector: list[float] | str) -> tuple[str, str]:
    """Give the beginning of the digest and the nonce that a vector tells."""
    if isinstance(vector, str):
        content = base64.b64decode(vector)
        vector = list(struct.unpack(f"<{len(content) // 4}f", content))
    told = bytes(round(number * 256) for number in vector)
    return told[:DIMENSIONS].hex(), told[DIMENSIONS:].hex()


def plain(path: str, text: str, ended: str = "") -> dict[str, Any]:
    """Answer in one piece, in the format of a path."""
    base = {"id": "a-1", "created": 1700000000, "model": "m-1"}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    match path:
        case "/v1/messages":
            return {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": "m-1",
                "content": [{"type": "text", "text": text}],
                "stop_reason": "max_tokens" if ended else "end_turn",
                "stop_sequence": None,
                "usage": {"input_tokens": 3, "output_tokens": 2},
            }
        case "/v1/responses":
            return {
                "id": "resp_1",
                "object": "response",
                "created_at": 1700000000,
                "model": "m-1",
                "status": "incomplete" if ended else "completed",
                "output": [
                    {
                        "type": "message",
                        "id": "msg_1",
                        "role": "assistant",
                        "status": "completed",
                        "content": [{"type": "output_text", "text": text, "annotations": []}],
                    }
                ],
                "usage": {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5},
            }
        case "/v1/completions":
            choice = {"index": 0, "text": text, "finish_reason": ended or "stop", "logprobs": None}
            return {**base, "object": "text_completion", "choices": [choice], "usage": usage}
        case "/v1/chat/completions":
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "message": message, "finish_reason": ended or "stop"}
            return {**base, "object": "chat.completion", "choices": [choice], "usage": usage}
        case _:
            content = {"parts": [{"text": text}], "role": "model"}
            reason = "MAX_TOKENS" if ended else "STOP"
            return {"candidates": [{"content": content, "finishReason": reason, "index": 0}]}


def stream(path: str, text: str, source: random.Random) -> Iterator[bytes]:
    """Answer as events, in the format of a path."""

    def event(body: dict[str, Any], name: str = "") -> bytes:
        begin = f"event: {name}\n" if name else ""
        return f"{begin}data: {json.dumps(body)}\n\n".encode()

    # The mark stays whole.
    end = text.index("Z") + 1
    words = [text[:end]]
    while end < len(text):
        length = source.randrange(1, 200)
        words.append(text[end : end + length])
        end += length
    if source.random() < 0.1:
        yield b": keep-alive\n\n"
    match path:
        case "/v1/messages":
            message = {**plain(path, ""), "content": [], "stop_reason": None}
            yield event({"type": "message_start", "message": message}, "message_start")
            block = {"type": "text", "text": ""}
            yield event(
                {"type": "content_block_start", "index": 0, "content_block": block},
                "content_block_start",
            )
            for word in words:
                delta = {"type": "text_delta", "text": word}
                yield event(
                    {"type": "content_block_delta", "index": 0, "delta": delta},
                    "content_block_delta",
                )
            yield event({"type": "content_block_stop", "index": 0}, "content_block_stop")
            yield event(
                {
                    "type": "message_delta",
                    "delta": {"stop_reason": "end_turn", "stop_sequence": None},
                    "usage": {"output_tokens": 2},
                },
                "message_delta",
            )
            yield event({"type": "message_stop"}, "message_stop")
        case "/v1/responses":
            whole = plain(path, text)
            begun = {**whole, "status": "in_progress", "output": []}
            yield event({"type": "response.created", "response": begun}, "response.created")
            for word in words:
                yield event(
                    {
                        "type": "response.output_text.delta",
                        "output_index": 0,
                        "content_index": 0,
                        "item_id": "msg_1",
                        "delta": word,
                    },
                    "response.output_text.delta",
                )
            yield event({"type": "response.completed", "response": whole}, "response.completed")
        case "/v1/completions":
            base = {"id": "a-1", "object": "text_completion", "created": 1700000000, "model": "m-1"}
            for word in words:
                choice = {"index": 0, "text": word, "finish_reason": None, "logprobs": None}
                yield event({**base, "choices": [choice]})
            choice = {"index": 0, "text": "", "finish_reason": "stop", "logprobs": None}
            yield event({**base, "choices": [choice]})
            yield b"data: [DONE]\n\n"
        case _:
            base = {"id": "a-1", "created": 1700000000, "model": "m-1"}
            base["object"] = "chat.completion.chunk"
            first = {"role": "assistant", "content": ""}
            for delta in (first, *({"content": word} for word in words)):
                yield event({**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
            yield event({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
            yield b"data: [DONE]\n\n"
