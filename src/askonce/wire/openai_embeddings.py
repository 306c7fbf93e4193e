"""OpenAI's embeddings: `POST …/embeddings`, input by input.

Each input of a batch has an entry of its own. How vectors are written, as numbers or as base64,
is presentation: base64 carries float32, numbers are read as float64.
"""

import base64
import binascii
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from askonce.errors import AnswerError
from askonce.wire import fields, openai
from askonce.wire.contract import Usage
from askonce.wire.json_body import Json

NAME: str = "openai.embeddings"

IGNORED: Mapping[str, str] = {
    "input": "each input has an entry of its own",
    "encoding_format": "it tells how a vector is written",
    "user": openai.IGNORED["user"],
}

Encoding = Literal["float", "base64"]
Rows = NDArray[np.float32] | NDArray[np.float64]

_FLOAT32 = np.dtype("<f4")

model = openai.model_of


def refusal(body: Json) -> str | None:
    """Tell why this batch may not be split and cached."""
    if body.get("encoding_format") not in (None, "float", "base64"):
        return "`encoding_format` is neither float nor base64"
    if body.get("output_dtype") not in (None, "float"):
        return "`output_dtype` asks for vectors that are not floats"
    if body.get("late_chunking"):
        return "`late_chunking` makes the vector of an input depend on the others"
    if body.get("stream"):
        return "embeddings do not come as streams"
    if _inputs_of(body.get("input")) is None:
        return "`input` is neither text, nor tokens, nor a list of these"
    return None


def identity(path: str, body: Json) -> Json:
    """Give what decides all vectors of a batch: format, path and the body less what is ignored."""
    return fields.identity_of(NAME, path, body, IGNORED)


def inputs(body: Json) -> list[bytes]:
    """Give each input of a batch as bytes; equal inputs, and no others, have equal bytes.

    The text "1" and the token 1 differ. Raises ValueError where `refusal` would have refused.
    """
    found = _inputs_of(body.get("input"))
    if found is None:
        raise ValueError(refusal(body))
    return [
        b"text:" + content.encode("utf-8", "surrogatepass")
        if isinstance(content, str)
        else b"tokens:" + struct.pack(f"<{len(content)}q", *content)
        for content in found
    ]


def _inputs_of(given: Any) -> list[str | list[int]] | None:
    if isinstance(given, str):
        return [given]
    if not isinstance(given, list) or not given:
        return None
    if _are_tokens(given):
        return [given]
    if all(isinstance(content, str) or _are_tokens(content) for content in given):
        return given
    return None


def _are_tokens(content: object) -> bool:
    return (
        isinstance(content, list)
        and bool(content)
        and all(type(token) is int and 0 <= token < 2**63 for token in content)
    )


def request_for(body: Json, places: Sequence[int]) -> Json:
    """Give the same request for some inputs only, told by their place in the batch."""
    found = _inputs_of(body.get("input"))
    if found is None:
        raise ValueError(refusal(body))
    return {**body, "input": [found[place] for place in places]}


def encoding(body: Json) -> Encoding:
    """Give how the vectors are to be written."""
    return "base64" if body.get("encoding_format") == "base64" else "float"


def decode(response: Json, count: int) -> Rows:
    """Read the vectors of an answer: an array of shape (count, dimensions), by their `index`.

    float32 if all came as base64, else float64. Raises AnswerError unless each of `count` inputs
    has exactly one vector, all of one length, of finite numbers.
    """
    data = response.get("data")
    if not isinstance(data, list) or len(data) != count or not count:
        amount = len(data) if isinstance(data, list) else "no"
        raise AnswerError(f"the provider answered {count} inputs with {amount} vectors")
    rows: list[NDArray[Any] | None] = [None] * count
    for item in data:
        index = item.get("index") if isinstance(item, dict) else None
        if type(index) is not int or not 0 <= index < count or rows[index] is not None:
            raise AnswerError(f"the index {index!r} of a vector is missing, double or out of range")
        rows[index] = _row_of(item.get("embedding"), index)
    try:
        whole = np.stack([row for row in rows if row is not None])
    except ValueError:
        raise AnswerError("the provider answered with vectors of different lengths") from None
    if not np.isfinite(whole).all():
        raise AnswerError("the provider answered with NaN or infinity in a vector")
    return whole


def _row_of(embedding: object, index: int) -> NDArray[Any]:
    row: NDArray[Any] | None = None
    if isinstance(embedding, str):
        try:
            row = np.frombuffer(base64.b64decode(embedding, validate=True), _FLOAT32)
        except (binascii.Error, ValueError):
            raise AnswerError(f"vector {index} is not base64 of float32 numbers") from None
        row = row.astype(np.float32, copy=False)
    elif isinstance(embedding, list):
        try:
            read = np.array(embedding)
        except ValueError:
            read = np.empty(0)
        row = read.astype(np.float64) if read.ndim == 1 and read.dtype.kind in "fiu" else None
    if row is None or not row.size:
        raise AnswerError(f"vector {index} is not a list of numbers")
    return row


def respond(rows: Rows, encoding: Encoding, *, model: str, counts: Json | None) -> Json:
    """Build the answer to a batch from its vectors, in the order of its inputs.

    Numbers round-trip exactly; base64 is little-endian float32, to which float64 is rounded.
    `counts` is what `counts_of` gives; None leaves the usage out.
    """
    written: list[Any]
    if encoding == "base64":
        narrow = np.ascontiguousarray(rows, _FLOAT32)
        written = [base64.b64encode(row.tobytes()).decode("ascii") for row in narrow]
    else:
        written = rows.tolist()
    data = [
        {"object": "embedding", "index": index, "embedding": vector}
        for index, vector in enumerate(written)
    ]
    response: Json = {"object": "list", "data": data, "model": model}
    return response if counts is None else {**response, "usage": counts}


def counts_of(responses: Sequence[Json]) -> Json | None:
    """Add up what the provider says the requests of one batch cost.

    Hits cost nothing: without a request all counts are zero. None if a request went upstream and
    its answer does not say: nothing is made up.
    """
    total: Json = {"prompt_tokens": 0, "total_tokens": 0}
    for response in responses:
        for name in total:
            tokens = fields.count(response.get("usage"), name)
            if tokens is None:
                return None
            total[name] += tokens
    return total


def usage(response: Json) -> Usage | None:
    """Give what the answer cost."""
    tokens = fields.count(response.get("usage"), "prompt_tokens")
    if tokens is None:
        return None
    return Usage(fields.text(response, "model"), tokens, 0)
