"""OpenAI's responses: `POST …/responses`.

The last event of a stream holds the whole answer; all others only announce it. What this format
keeps at the provider by default makes `store` part of the identity: the id of an answer with
`store: false` leads nowhere.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from askonce.errors import AnswerError
from askonce.wire import fields, openai
from askonce.wire.contract import Joiner, Shortfall, Usage
from askonce.wire.json_body import Json, write_body
from askonce.wire.sse import Event

NAME: str = "openai.responses"

IGNORED: Mapping[str, str] = openai.IGNORED

_STATE = {
    **openai.STORE,
    "background": "asks for an answer to be fetched later",
    "previous_response_id": "continues an answer that the provider keeps",
    "conversation": "continues a conversation that the provider keeps",
}
_LAST = {
    "response.completed": "completed",
    "response.incomplete": "incomplete",
    "response.failed": "failed",
}
_INCOMPLETE: dict[object, Shortfall] = {
    "max_output_tokens": "length",
    "content_filter": "content_filter",
}

model = openai.model_of
wants_stream = fields.wants_stream


def refusal(body: Json) -> str | None:
    """Tell why the answer to this request may not be cached."""
    if refused := fields.field_refusal(body, _STATE):
        return refused
    prompt = body.get("prompt")
    if isinstance(prompt, dict) and not prompt.get("version"):
        return "`prompt` without a version names a template that may change at the provider"
    items = body.get("input")
    if isinstance(items, list) and any(map(_is_reference, items)):
        return "`input` refers to an item that the provider keeps"
    return fields.stream_refusal(body) or fields.tool_refusal(body, openai.HOSTED_TOOLS)


def _is_reference(item: object) -> bool:
    if not isinstance(item, dict):
        return False
    kind = item.get("type")
    return kind == "item_reference" or (kind is None and "id" in item and "role" not in item)


def identity(path: str, body: Json) -> Json:
    """Give what decides the answer."""
    return fields.identity_of(NAME, path, body, IGNORED)


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
    output = response.get("output")
    if not isinstance(output, list) or not all(isinstance(item, dict) for item in output):
        return "malformed"
    status = response.get("status")
    if status == "incomplete":
        details = response.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, dict) else None
        return _INCOMPLETE.get(reason, "unfinished")
    if status != "completed":
        return "error" if status == "failed" else "unfinished"
    parts = [part for item in output for part in _parts_of(item, "content")]
    return "refusal" if any(part.get("type") == "refusal" for part in parts) else None


def usage(response: Json) -> Usage | None:
    """Give what the answer cost."""
    return openai.usage_of(response, "input", "output")


class _ResponseJoiner(Joiner):
    def __init__(self) -> None:
        super().__init__()
        self._last: Json = {}
        self._items: dict[int, Json] = {}

    def _take(self, name: str, body: Json) -> None:
        kind = body.get("type", name)
        if kind == "error" or body.get("error"):
            raise AnswerError(f"the provider reported an error in the stream: {body}")
        if kind == "response.output_item.done":
            index = body.get("output_index", len(self._items))
            if isinstance(index, int) and isinstance(body.get("item"), dict):
                self._items[index] = body["item"]
        elif kind in _LAST:
            response = body.get("response")
            if not isinstance(response, dict):
                raise AnswerError(f"the event {kind} comes without its response")
            if kind == "response.failed":
                raise AnswerError(f"the provider failed: {response.get('error')}")
            # Some servers leave out at the end what they have sent item by item.
            if not response.get("output") and self._items:
                response["output"] = [item for _, item in sorted(self._items.items())]
            self._last = response
            self.complete = True

    def _response(self) -> Json:
        return self._last


def joiner() -> Joiner:
    """Start joining one stream."""
    return _ResponseJoiner()


_LATE = ("usage", "completed_at", "incomplete_details")


def split(response: Json, *, usage: bool) -> list[Event]:
    """Give an answer as a stream."""
    begun: Json = {**response, "status": "in_progress", "output": []}
    begun |= {name: None for name in _LATE if name in response}
    bodies: list[Json] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]
    for index, item in enumerate(response["output"]):
        bodies += _announce(item, index)
    bodies.append({"type": f"response.{response['status']}", "response": response})
    return [
        Event.of(write_body({**body, "sequence_number": number}), body["type"])
        for number, body in enumerate(bodies)
    ]


def _announce(item: Json, output_index: int) -> Iterator[Json]:
    """Give the events of one item of the output."""
    place: Json = {"item_id": item.get("id", ""), "output_index": output_index}
    name, event = _TEXTS_OF_ITEMS.get(str(item.get("type")), ("", ""))
    text = item.get(name)
    opened: Json = item | {field: [] for field in ("content", "summary") if _parts_of(item, field)}
    if "status" in item:
        opened["status"] = "in_progress"
    if isinstance(text, str):
        opened[name] = ""
    yield {"type": "response.output_item.added", "output_index": output_index, "item": opened}
    if isinstance(text, str):
        yield from _text(event, name, text, place)
    for index, part in enumerate(_parts_of(item, "summary")):
        yield from _part("response.reasoning_summary_part", part, place | {"summary_index": index})
    for index, part in enumerate(_parts_of(item, "content")):
        yield from _part("response.content_part", part, place | {"content_index": index})
    yield {"type": "response.output_item.done", "output_index": output_index, "item": item}


_TEXTS_OF_ITEMS = {
    "function_call": ("arguments", "response.function_call_arguments"),
    "custom_tool_call": ("input", "response.custom_tool_call_input"),
}
_TEXTS_OF_PARTS = {
    "output_text": ("text", "response.output_text"),
    "refusal": ("refusal", "response.refusal"),
    "reasoning_text": ("text", "response.reasoning_text"),
    "summary_text": ("text", "response.reasoning_summary_text"),
}


def _parts_of(item: Json, name: str) -> list[Json]:
    parts = item.get(name)
    return [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []


def _part(event: str, part: Json, place: Json) -> Iterator[Json]:
    name, text_event = _TEXTS_OF_PARTS.get(str(part.get("type")), ("", ""))
    text = part.get(name)
    opened = part | {name: ""} if isinstance(text, str) else part
    for field in ("annotations", "logprobs"):
        if isinstance(opened.get(field), list):
            opened = opened | {field: []}
    yield {"type": f"{event}.added", **place, "part": opened}
    if isinstance(text, str):
        yield from _text(text_event, name, text, place, part.get("logprobs"))
    annotations = part.get("annotations")
    for index, annotation in enumerate(annotations if isinstance(annotations, list) else []):
        yield {
            "type": "response.output_text.annotation.added",
            **place,
            "annotation_index": index,
            "annotation": annotation,
        }
    yield {"type": f"{event}.done", **place, "part": part}


def _text(event: str, name: str, text: str, place: Json, logprobs: Any = None) -> Iterator[Json]:
    around: Json = {"logprobs": logprobs or []} if event == "response.output_text" else {}
    if text:
        yield {"type": f"{event}.delta", **place, "delta": text, **around}
    yield {"type": f"{event}.done", **place, name: text, **around}
