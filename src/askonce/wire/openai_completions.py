"""OpenAI's text completions: `POST …/completions`, the older format without messages."""

from collections.abc import Mapping

from askonce.errors import AnswerError
from askonce.wire import deltas, fields, openai, openai_chunks
from askonce.wire.contract import Joiner, Shortfall, Usage
from askonce.wire.json_body import Json
from askonce.wire.sse import Event

NAME: str = "openai.completions"

IGNORED: Mapping[str, str] = openai.IGNORED

model = openai.model_of
wants_stream = fields.wants_stream
wants_usage = openai.wants_usage
without_usage = openai_chunks.without_usage


def refusal(body: Json) -> str | None:
    """Tell why the answer to this request may not be cached."""
    return fields.field_refusal(body, openai.STORE) or fields.stream_refusal(body)


def identity(path: str, body: Json) -> Json:
    """Give what decides the answer."""
    return fields.identity_of(NAME, path, body, IGNORED)


def shortfall(response: Json) -> Shortfall | None:
    """Tell why this answer may not be kept."""
    found = openai_chunks.shortfall_of(response, "text")
    if found in ("error", "malformed"):
        return found
    if not all(isinstance(choice["text"], str) for choice in response["choices"]):
        return "malformed"
    return found


def usage(response: Json) -> Usage | None:
    """Give what the answer cost."""
    return openai.usage_of(response, "prompt", "completion")


class _CompletionJoiner(openai_chunks.ChunkJoiner):
    def _add(self, choice: Json, piece: Json) -> None:
        text = piece.pop("text", None)
        if text is not None and not isinstance(text, str):
            raise AnswerError("the text of a choice in the stream is not a string")
        deltas.add(choice, {"text": text or ""})
        deltas.renew(choice, piece)


def joiner() -> Joiner:
    """Start joining one stream."""
    return _CompletionJoiner()


def split(response: Json, *, usage: bool) -> list[Event]:
    """Give an answer as a stream."""
    pieces: list[Json] = []
    for choice in response["choices"]:
        ending: Json = {**dict.fromkeys(choice), "index": choice["index"], "text": ""}
        pieces.append({**choice, "finish_reason": None})
        pieces.append({**ending, "finish_reason": choice["finish_reason"]})
    return openai_chunks.chunks_of(response, response.get("object"), pieces, usage=usage)
