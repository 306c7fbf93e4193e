"""Google's Gemini: `POST …/models/{model}:generateContent` and `:streamGenerateContent?alt=sse`.

The model and whether a stream is wanted are in the path. A stream has no end mark: it is whole
when every candidate has told why it finished.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs

from askonce.errors import AnswerError
from askonce.wire import deltas, fields
from askonce.wire.contract import Joiner, Shortfall, Usage
from askonce.wire.json_body import Json, write_body
from askonce.wire.sse import Event

NAME: str = "gemini"

IGNORED: Mapping[str, str] = {
    "labels": "they label the request in the provider's bills",
    "serviceTier": "it decides price and speed; the same model answers",
    "service_tier": "it decides price and speed; the same model answers",
}

_HOSTED_TOOLS = {
    "googleSearch": "reads the web as it is now",
    "googleSearchRetrieval": "reads the web as it is now",
    "enterpriseWebSearch": "reads the web as it is now",
    "parallelAiSearch": "reads the web as it is now",
    "exaAiSearch": "reads the web as it is now",
    "urlContext": "reads the web as it is now",
    "googleMaps": "reads maps as they are now",
    "retrieval": "reads the provider's data stores, which change",
    "fileSearch": "reads the provider's data stores, which change",
    "mcpServers": "acts on remote servers",
}
_ENDINGS: dict[object, Shortfall | None] = {
    "STOP": None,
    "MAX_TOKENS": "length",
    **dict.fromkeys(
        (
            "SAFETY",
            "RECITATION",
            "BLOCKLIST",
            "PROHIBITED_CONTENT",
            "SPII",
            "MODEL_ARMOR",
            "IMAGE_SAFETY",
            "IMAGE_PROHIBITED_CONTENT",
            "IMAGE_RECITATION",
        ),
        "content_filter",
    ),
}
_STREAM = ":streamGenerateContent"
_PLAIN = ":generateContent"
_UNSET = "FINISH_REASON_UNSPECIFIED"


def refusal(body: Json) -> str | None:
    """Tell why the answer to this request may not be cached."""
    if body.get("store"):
        return "`store` asks the provider to log the answer"
    if body.get("continuationToken") or body.get("continuation_token"):
        return "`continuationToken` continues an answer that the provider keeps"
    tools = body.get("tools")
    for tool in tools if isinstance(tools, list) else [tools]:
        for name in tool if isinstance(tool, dict) else ():
            what_it_does = _HOSTED_TOOLS.get(_camel(name))
            if what_it_does:
                return f"the tool `{name}` {what_it_does}"
    return None


def _camel(name: str) -> str:
    """Write a name as JSON has it; the provider takes `snake_case` as well."""
    first, *others = name.split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in others)


def identity(path: str, body: Json) -> Json:
    """Give what decides the answer; both methods of a path are one."""
    place = fields.path_of(path)
    if place.endswith(_STREAM):
        place = place.removesuffix(_STREAM) + _PLAIN
    return fields.identity_of(NAME, place, body, IGNORED)


def model(path: str, body: Json) -> str:
    """Give the model that the path names."""
    return fields.path_of(path).rpartition("/")[2].partition(":")[0]


def wants_stream(path: str, body: Json) -> bool:
    """Tell whether the answer is to come as events."""
    return fields.path_of(path).endswith(_STREAM)


def streams_events(path: str) -> bool:
    """Tell whether a stream comes as events; else it is one long JSON array."""
    return "sse" in parse_qs(path.partition("?")[2]).get("alt", ())


def wants_usage(body: Json) -> bool:
    """Tell that every stream carries its usage."""
    return True


def without_usage(events: Sequence[Event]) -> list[Event]:
    """Give the events as they are: every request wants the usage."""
    return list(events)


def shortfall(response: Json) -> Shortfall | None:
    """Tell why this answer may not be kept."""
    if response.get("error"):
        return "error"
    if _is_blocked(response):
        return "content_filter"
    candidates = response.get("candidates")
    if not isinstance(candidates, list) or not candidates:
        return "malformed"
    for candidate in candidates:
        if not isinstance(candidate, dict):
            return "malformed"
        reason = candidate.get("finishReason")
        ending = _ENDINGS.get(reason, "unfinished") if isinstance(reason, str) else "unfinished"
        if ending is not None:
            return ending
    return None


def _is_blocked(response: Json) -> bool:
    feedback = response.get("promptFeedback")
    return isinstance(feedback, dict) and bool(feedback.get("blockReason"))


def usage(response: Json) -> Usage | None:
    """Give what the answer cost, thoughts and the results of tools included."""
    counts = response.get("usageMetadata")
    prompt = fields.count(counts, "promptTokenCount")
    if prompt is None:
        return None
    tools = fields.count(counts, "toolUsePromptTokenCount") or 0
    said = fields.count(counts, "candidatesTokenCount") or 0
    thought = fields.count(counts, "thoughtsTokenCount") or 0
    cached = fields.count(counts, "cachedContentTokenCount")
    return Usage(fields.text(response, "modelVersion"), prompt + tools, said + thought, cached)


class _GeminiJoiner(Joiner):
    def __init__(self) -> None:
        super().__init__()
        self._head: Json = {}
        self._candidates: dict[int, Json] = {}

    def feed(self, event: Event) -> None:
        # Events may follow the one that finishes the last candidate: with the usage, or nothing.
        self.complete = False
        super().feed(event)
        finished = [_is_finished(candidate) for candidate in self._candidates.values()]
        self.complete = self.failed is None and (
            all(finished) if finished else _is_blocked(self._head)
        )

    def _take(self, name: str, body: Json) -> None:
        if body.get("error") or name == "error":
            raise AnswerError(f"the provider reported an error in the stream: {body}")
        candidates = body.pop("candidates", None)
        for field, value in body.items():
            if value is not None or field not in self._head:
                self._head[field] = value
        for candidate in candidates if isinstance(candidates, list) else ():
            if not isinstance(candidate, dict):
                raise AnswerError("a candidate in the stream is not an object")
            index = candidate.get("index", 0)
            if not isinstance(index, int):
                raise AnswerError("the index of a candidate in the stream is not a number")
            if index in self._candidates:
                _add_candidate(self._candidates[index], candidate)
            else:
                self._candidates[index] = candidate

    def _response(self) -> Json:
        if not self._candidates:
            return deltas.settled(self._head)
        candidates = [candidate for _, candidate in sorted(self._candidates.items())]
        return deltas.settled({**self._head, "candidates": candidates})


def _is_finished(candidate: Json) -> bool:
    return candidate.get("finishReason") not in (None, _UNSET)


_GROWING = ("logprobsResult", "citationMetadata")


def _add_candidate(target: Json, piece: Json) -> None:
    """Add a piece of a candidate: its parts go on, what grows grows, the rest is replaced."""
    for name, value in piece.items():
        present = target.get(name)
        if name == "content" and isinstance(present, dict) and isinstance(value, dict):
            _add_content(present, value)
        elif name in _GROWING and isinstance(present, dict) and isinstance(value, dict):
            deltas.renew(present, value)
        elif value is not None or name not in target:
            target[name] = value


def _add_content(target: Json, piece: Json) -> None:
    parts = piece.pop("parts", None) or []
    target.update({name: value for name, value in piece.items() if value is not None})
    if not isinstance(parts, list):
        raise AnswerError("the parts of a candidate in the stream are not a list")
    present: list[Any] = target.get("parts") or []
    target["parts"] = present
    for part in parts:
        if present and _goes_on(present[-1], part):
            deltas.add(present[-1], {"text": part["text"]})
        else:
            present.append(part)


def _goes_on(present: object, part: object) -> bool:
    """Tell whether two parts are one text; one with a signature stays by itself."""
    if not isinstance(present, dict) or not isinstance(part, dict):
        return False
    plain = present.keys() <= {"text", "thought"} and part.keys() <= {"text", "thought"}
    alike = bool(present.get("thought")) == bool(part.get("thought"))
    return plain and alike and "text" in present and isinstance(part.get("text"), str)


def joiner() -> Joiner:
    """Start joining one stream."""
    return _GeminiJoiner()


def split(response: Json, *, usage: bool) -> list[Event]:
    """Give an answer as a stream: one event, as the provider sends short answers."""
    return [Event.of(write_body(response))]
