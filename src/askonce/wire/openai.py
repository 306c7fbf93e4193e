"""What the formats of OpenAI, and of the many servers that speak them, have in common."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from askonce.wire import fields
from askonce.wire.contract import Usage
from askonce.wire.json_body import Json

IGNORED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "stream": "one entry serves streams and plain answers",
        "stream_options": "it tells how a stream is presented",
        "user": "it names the end user to the provider's abuse monitoring",
        "safety_identifier": "it names the end user to the provider's abuse monitoring",
        "metadata": "it labels the provider's own copy of the answer",
        "prompt_cache_key": "it finds a place in the provider's prompt cache: price and speed",
        "prompt_cache_retention": "it keeps a place in the provider's prompt cache",
        "service_tier": "it decides price and speed; the same model answers",
    }
)

STORE: Final[Mapping[str, str]] = MappingProxyType(
    {"store": "asks the provider to keep the answer under an id of its own"}
)

HOSTED_TOOLS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "web_search": "reads the web as it is now",
        "file_search": "reads the provider's vector stores, which change",
        "code_interpreter": "runs in a container that the provider keeps",
        "mcp": "acts on a remote server",
    }
)


def deployment_of(path: str) -> str:
    """Give the deployment that a path of Azure names, "" if it names none."""
    _, found, rest = fields.path_of(path).partition("/deployments/")
    return rest.partition("/")[0] if found else ""


def model_of(path: str, body: Json) -> str:
    """Give the model that is asked for."""
    return fields.text(body, "model") or deployment_of(path)


def wants_usage(body: Json) -> bool:
    """Tell whether a stream of this answer is to carry its usage."""
    options = body.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def usage_of(response: Json, input_name: str, output_name: str) -> Usage | None:
    """Read a usage whose fields have these names, before `_tokens` and `_tokens_details`."""
    usage = response.get("usage")
    asked = fields.count(usage, f"{input_name}_tokens")
    said = fields.count(usage, f"{output_name}_tokens")
    if not isinstance(usage, dict) or asked is None or said is None:
        return None
    details = usage.get(f"{input_name}_tokens_details")
    return Usage(
        model=fields.text(response, "model"),
        input=asked,
        output=said,
        cached=fields.count(details, "cached_tokens"),
        written=fields.count(details, "cache_write_tokens"),
    )
