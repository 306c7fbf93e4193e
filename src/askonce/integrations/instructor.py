"""Which of Instructor's answers are worth keeping; it asks through a client with our transport."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from askonce.errors import MissingExtraError

try:
    from pydantic import BaseModel, ValidationError
except ImportError as error:
    raise MissingExtraError("pydantic", "instructor", "askonce.integrations.instructor") from error

__all__ = ["valid"]


def valid(*models: type[BaseModel]) -> Callable[[Mapping[str, Any]], bool]:
    """Make a `keep` that refuses calls of a tool named like one of these models that it rejects.

        http = askonce.http_client("sqlite:///cache.db", keep=valid(User, Order))

    Whatever else an answer holds is no reason to refuse it. Knows the answers of OpenAI's chat
    completions and Anthropic's messages. A validation that needs a context gets none.
    """
    by_name = {model.__name__: model for model in models}

    def keep(reply: Mapping[str, Any]) -> bool:
        return all(
            _is_valid(by_name[name], arguments)
            for name, arguments in _calls(reply)
            if name in by_name
        )

    return keep


def _is_valid(model: type[BaseModel], arguments: object) -> bool:
    try:
        if isinstance(arguments, str):
            model.model_validate_json(arguments)
        else:
            model.model_validate(arguments)
    except ValidationError:
        return False
    return True


def _calls(reply: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    for choice in reply.get("choices") or ():
        for call in choice["message"].get("tool_calls") or ():
            function = call.get("function") or {}
            yield function.get("name", ""), function.get("arguments")
    for block in reply.get("content") or ():
        if block.get("type") == "tool_use":
            yield block.get("name", ""), block.get("input")
