"""A request explained: what of it identifies the answer, what is ignored and why."""

import json
import urllib.parse
from collections.abc import Mapping
from typing import Any

from askonce.core.keys import Subject
from askonce.errors import InputError
from askonce.explain import Explanation
from askonce.http.control import OWN_PREFIX
from askonce.http.exchange import Batch, Bypass, Exchange, Rules, understand
from askonce.http.identity import Origin, reason_ignored
from askonce.wire import Json, canonical_body, openai_embeddings, write_body

_DECIDING_CONTROLS = (f"{OWN_PREFIX}namespace", f"{OWN_PREFIX}sample")


def explain(origin: Origin, content: bytes, rules: Rules) -> Explanation:
    """Explain a request under the rules of a cache.

    Where these tell credentials apart, a keyed digest of them is in the identity. Raises
    InputError for control headers that cannot be read.
    """
    found = understand(origin, content, rules)
    match found:
        case Bypass(reason):
            return Explanation(
                refusal=reason or "the request is neither for an answer nor for embeddings"
            )
        case Exchange():
            parameters, kind, model = found.parameters, "chat", found.question.model
            keys: list[str] = [found.question.key]
            decides = found.wire.identity(found.path, found.body)
            wire_ignores = found.wire.IGNORED
        case Batch():
            parameters, kind, model = found.subject.parameters, "embedding", found.subject.model
            keys = [found.inputs.keys[place] for place in found.inputs.positions.tolist()]
            decides = openai_embeddings.identity(found.path, found.body)
            decides["body"] = {**decides["body"], "input": found.body["input"]}
            wire_ignores = openai_embeddings.IGNORED
    ignored = _ignored_of(origin, rules, parameters)
    ignored |= {
        f"body.{name}": why
        for name, why in wire_ignores.items()
        if name in found.body and not (kind == "embedding" and name == "input")
    }
    request = _request(found.policy.namespace, parameters, decides)
    if "credential" in parameters:
        request["credential"] = parameters["credential"]
    return Explanation(
        kind,
        model,
        keys,
        request,
        ignored,
        "no-store is asked for" if found.policy.no_store else "",
    )


def _ignored_of(origin: Origin, rules: Rules, parameters: Mapping[str, Any]) -> dict[str, str]:
    ignored: dict[str, str] = {}
    decide = {name for name, _ in parameters["query"]}
    for name, _ in urllib.parse.parse_qsl(origin.query, keep_blank_values=True):
        if name not in decide:
            reason = "how the answer is presented" if name == "alt" else "credentials"
            ignored[f"query.{name}"] = reason
    for name, value in origin.headers:
        if name not in _DECIDING_CONTROLS and name not in parameters["headers"]:
            ignored[f"headers.{name}"] = str(reason_ignored(name, value, rules.ignored_headers))
    if "credential" in parameters:
        ignored = {name: why for name, why in ignored.items() if why != "credentials"}
    return ignored


def request_of(subject: Subject, content: bytes) -> Json | None:
    """Give the request that an entry answers, with nothing but what identifies it.

    None if the entry was not asked for over HTTP. Who asked, which `isolate` adds to what
    identifies a request, is left out.
    """
    parameters = subject.parameters
    if not {"origin", "query", "headers"} <= parameters.keys():
        return None
    try:
        decides: Json = json.loads(parameters.get("request") or content)  # type: ignore[arg-type]
        if "request" in parameters:
            decides["body"]["input"] = _input_of(content)
        return _request(subject.namespace, parameters, decides)
    except (ValueError, TypeError, KeyError):
        return None


def _input_of(content: bytes) -> object:
    kind, _, rest = content.partition(b":")
    if kind == b"text":
        return rest.decode("utf-8", "surrogatepass")
    return [int.from_bytes(rest[start : start + 8], "little") for start in range(0, len(rest), 8)]


def _request(namespace: str, parameters: Mapping[str, Any], decides: Json) -> Json:
    """Write what identifies a request as a request, which `origin_of` reads back."""
    pairs = [tuple(pair) for pair in parameters["query"]]
    query = urllib.parse.urlencode(pairs, errors="surrogateescape")
    headers: Json = {}
    if namespace:
        headers[f"{OWN_PREFIX}namespace"] = namespace
    if "sample" in parameters:
        headers[f"{OWN_PREFIX}sample"] = str(parameters["sample"])
    for name, values in sorted(parameters["headers"].items()):
        headers[name] = values[0] if len(values) == 1 else values
    return {
        "method": "POST",
        "url": f"{parameters['origin']}{decides['path']}{'?' if query else ''}{query}",
        "headers": headers,
        "body": json.loads(canonical_body(decides["body"])),
    }


def read_request(request: Mapping[str, Any]) -> tuple[Origin, bytes]:
    """Read a request given as `method`, `url`, `headers` and `body`.

    The body is JSON, or a string with the body itself. Raises InputError for anything else.
    """
    try:
        url = urllib.parse.urlsplit(request["url"])
        headers = [
            (str(name).lower(), str(value))
            for name, values in dict(request.get("headers") or {}).items()
            for value in (values if isinstance(values, list) else [values])
        ]
        body = request.get("body", "")
        content = body.encode() if isinstance(body, str) else write_body(body)
        method = str(request.get("method", "POST")).upper()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            "a request is an object with the fields url, headers and body, and a method if that "
            f"is not POST; this one cannot be read: {error!r}"
        ) from None
    if not url.scheme or not url.netloc:
        raise InputError(f"the url of the request is {request['url']!r}; give all of it")
    authority = url.netloc.rpartition("@")[2].lower()
    authority = authority.removesuffix({"https": ":443", "http": ":80"}.get(url.scheme, " "))
    return Origin(method, url.scheme, authority, url.path, url.query, headers), content
