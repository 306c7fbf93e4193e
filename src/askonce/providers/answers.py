"""What a provider answered to an embeddings request, as rows."""

import base64
import binascii
import json
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from askonce.errors import AnswerError

Rows = NDArray[np.float32]

_EXCERPT = 200


def read_rows(body: bytes, count: int) -> tuple[Rows, int]:
    """Read the vectors of `count` inputs, put in order by `index`, and the tokens they cost.

    Numbers may be base64 (little-endian float32) or JSON, whichever was asked for. Raises
    AnswerError unless there is one finite vector an input, all of one length.
    """
    try:
        answer = json.loads(body)
    except ValueError:
        raise AnswerError(
            f"the provider answered with something other than JSON: {_excerpt(body)}; "
            "is base_url the address that /embeddings belongs after?"
        ) from None
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, list):
        raise AnswerError(f"the provider answered without vectors: {_excerpt(body)}")
    items: list[Any] = data
    if len(items) != count:
        raise AnswerError(f"the provider answered with {len(items)} vectors for {count} inputs")
    vectors: dict[int, Rows] = {}
    for item in items:
        index, vector = _read_item(item)
        if index in vectors or not 0 <= index < count:
            raise AnswerError(
                f"the provider's answer has index {index} "
                f"{'twice' if index in vectors else f'for {count} inputs'}; "
                "which vector belongs to which text cannot be told"
            )
        vectors[index] = vector
    lengths = {len(vector) for vector in vectors.values()}
    if len(lengths) > 1:
        raise AnswerError(f"the provider answered with vectors of different lengths: {lengths}")
    rows = np.stack([vectors[index] for index in range(count)])
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        raise AnswerError(
            f"the provider answered with NaN or infinity in vector {int(finite.argmin())} "
            f"of {count}"
        )
    return rows, _tokens(cast("dict[str, Any]", answer))


def _read_item(item: Any) -> tuple[int, Rows]:
    if not isinstance(item, dict):
        raise AnswerError(f"the provider answered with a {type(item).__name__} for a vector")
    fields = cast("dict[str, Any]", item)
    index = fields.get("index")
    if not isinstance(index, int) or isinstance(index, bool):
        raise AnswerError(
            f"the provider's answer has {index!r} as an index; "
            "which vector belongs to which text cannot be told"
        )
    return index, _read_vector(fields.get("embedding"))


def _read_vector(numbers: object) -> Rows:
    try:
        if isinstance(numbers, str):
            packed = base64.b64decode(numbers, validate=True)
            vector = np.frombuffer(packed, "<f4").astype(np.float32, copy=False)
        else:
            with np.errstate(over="ignore"):
                vector = np.array(numbers, np.float64).astype(np.float32)
    except (binascii.Error, ValueError, TypeError) as error:
        raise AnswerError(f"the provider answered with an unreadable vector: {error}") from None
    if vector.ndim != 1 or not vector.size:
        raise AnswerError(
            f"the provider answered with numbers of shape {vector.shape} for an input, not one "
            "vector; does the server pool the vectors of the tokens?"
        )
    return vector


def _tokens(answer: dict[str, Any]) -> int:
    usage = answer.get("usage")
    if not isinstance(usage, dict):
        return 0
    counts = cast("dict[str, Any]", usage)
    tokens = counts.get("total_tokens") or counts.get("prompt_tokens")
    return tokens if isinstance(tokens, int) else 0


def _excerpt(body: bytes) -> str:
    text = body[:_EXCERPT].decode(errors="replace")
    return repr(text) + ("..." if len(body) > _EXCERPT else "")
