"""One request, understood: what it asks, whether it may be cached, and its key."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from askonce.chat import Question
from askonce.core.inputs import Inputs
from askonce.core.keys import Subject
from askonce.errors import InputError
from askonce.events import Code
from askonce.http import identity
from askonce.http.control import Policy, policy_for
from askonce.http.identity import Origin
from askonce.wire import (
    Json,
    Wire,
    canonical_body,
    is_embeddings,
    openai_embeddings,
    parse_body,
    wire_for,
)


@dataclass(frozen=True)
class Rules:
    """Hold what is the same for every request of one cache."""

    policy: Policy = field(default_factory=Policy)
    ignored_headers: tuple[str, ...] = ()
    isolation_key: bytes | None = None


@dataclass(frozen=True)
class Exchange:
    """Hold a request for one answer that may be cached."""

    wire: Wire
    path: str
    body: Json
    policy: Policy
    question: Question
    wants_stream: bool
    wants_usage: bool
    parameters: Mapping[str, object]


@dataclass(frozen=True)
class Batch:
    """Hold a request for embeddings, whose inputs are cached one by one."""

    path: str
    body: Json
    policy: Policy
    inputs: Inputs
    subject: Subject


@dataclass(frozen=True)
class Bypass:
    """Hold the reason why a request passes by the cache; an empty one: it is none of ours."""

    reason: str = ""
    policy: Policy = field(default_factory=Policy)
    code: Code = ""


def understand(origin: Origin, content: bytes, rules: Rules) -> Exchange | Batch | Bypass:
    """Understand a request. Raises InputError for control headers that cannot be read."""
    wire = wire_for(origin.method, origin.target)
    embeds = wire is None and is_embeddings(origin.method, origin.path)
    if wire is None and not embeds:
        return Bypass()
    policy = policy_for(rules.policy, origin.headers)
    try:
        body = parse_body(content)
    except InputError as error:
        return Bypass(str(error), policy, "unreadable")
    refused = wire.refusal(body) if wire else openai_embeddings.refusal(body)
    if refused:
        return Bypass(refused, policy, "not_cacheable")
    if wire is None:
        return _batch(origin, body, policy, rules)
    if not policy.random and is_random(body):
        reason = "the answer is random, and the policy does not cache such answers"
        return Bypass(reason, policy, "random")
    model = wire.model(origin.target, body)
    subject = identity.subject_of(
        "chat",
        model,
        origin,
        policy,
        ignored=rules.ignored_headers,
        isolation_key=rules.isolation_key,
    )
    decides = canonical_body(wire.identity(origin.target, body))
    return Exchange(
        wire,
        origin.target,
        body,
        policy,
        Question.of(subject, decides),
        wire.wants_stream(origin.target, body),
        wire.wants_usage(body),
        subject.parameters,
    )


def _batch(origin: Origin, body: Json, policy: Policy, rules: Rules) -> Batch:
    subject = identity.subject_of(
        "embedding",
        openai_embeddings.model(origin.target, body),
        origin,
        policy,
        ignored=rules.ignored_headers,
        isolation_key=rules.isolation_key,
        request=canonical_body(openai_embeddings.identity(origin.target, body)),
    )
    contents = openai_embeddings.inputs(body)
    inputs = Inputs.of_contents(contents, list(range(len(contents))), subject)
    return Batch(origin.target, body, policy, inputs, subject)


def is_random(body: Json) -> bool:
    """Tell whether asking again may well give another answer: no seed, a temperature above 0."""
    settings = body.get("generationConfig")
    merged = {**body, **settings} if isinstance(settings, dict) else body
    return merged.get("seed") is None and merged.get("temperature") != 0
