"""Reading the fields of bodies and paths, whatever a client or a server put there."""

from collections.abc import Mapping

from askonce.wire.json_body import Json


def path_of(path: str) -> str:
    """Give a path without its query."""
    return path.partition("?")[0]


def identity_of(name: str, path: str, body: Json, ignored: Mapping[str, str]) -> Json:
    """Give what decides an answer: the format, the path, the body less what is ignored."""
    fields = {field: value for field, value in body.items() if field not in ignored}
    return {"wire": name, "path": path_of(path), "body": fields}


def wants_stream(path: str, body: Json) -> bool:
    """Tell whether the answer is to come as events."""
    return body.get("stream") is True


def stream_refusal(body: Json) -> str | None:
    """Tell that it is unclear whether a stream is wanted."""
    if body.get("stream") is None or isinstance(body["stream"], bool):
        return None
    return "`stream` is neither true nor false"


def field_refusal(body: Json, refused: Mapping[str, str]) -> str | None:
    """Tell that a field asks for what must not be cached; null and false ask for nothing."""
    for name, what_it_does in refused.items():
        if body.get(name):
            return f"`{name}` {what_it_does}"
    return None


def tool_refusal(body: Json, hosted: Mapping[str, str]) -> str | None:
    """Tell that a tool, by how its type begins, reaches beyond the request at the provider."""
    tools = body.get("tools")
    for tool in tools if isinstance(tools, list) else ():
        kind = tool.get("type") if isinstance(tool, dict) else None
        for prefix, what_it_does in hosted.items():
            if isinstance(kind, str) and kind.startswith(prefix):
                return f"the tool `{kind}` {what_it_does}"
    return None


def text(fields: object, name: str) -> str:
    """Give a field that is text, "" where there is none."""
    value = fields.get(name) if isinstance(fields, dict) else None
    return value if isinstance(value, str) else ""


def count(fields: object, name: str) -> int | None:
    """Give a field that counts something, None where there is none."""
    value = fields.get(name) if isinstance(fields, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None
