"""LiteLLM's cache hook over any store, with keys that tell every two requests apart."""

# LiteLLM is not installed where the types are checked.
# pyright: reportMissingImports=false, reportUntypedBaseClass=false

import json
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from pydantic import BaseModel

from askonce import chat
from askonce.chat import Question, Terms
from askonce.core import flow, keys, policy
from askonce.core.flight import Flight, Flights
from askonce.core.keys import Subject
from askonce.core.store import Store
from askonce.errors import InputTypeError, MissingExtraError
from askonce.events import Event, Observer, log
from askonce.integrations.fingerprint import is_ignored
from askonce.stores import open_store
from askonce.wire import SHORTFALLS, WIRES

try:
    import litellm
    from litellm.caching.base_cache import BaseCache
    from litellm.caching.caching import Cache
except ImportError as error:
    raise MissingExtraError("litellm", "litellm", "askonce.integrations.litellm") from error

__all__ = ["IGNORED", "LiteLLMCache"]

KIND = "litellm"
_WIRE = WIRES["openai.chat"]
"""LiteLLM's requests and answers have the fields of OpenAI's chat completions."""

IGNORED: Mapping[str, str] = {
    **_WIRE.IGNORED,
    **dict.fromkeys(
        (
            *("*api_key", "*secret*", "*password*", "*credential*", "*access_key_id", "client_id"),
            *("*session_token", "azure_ad_token*", "azure_username", "organization", "tenant_id"),
            *("aws_session_name", "aws_profile_name", "aws_role_name", "*identity_token*"),
        ),
        "credentials",
    ),
    **dict.fromkeys(("*timeout*", "*retries", "retry_*", "stream_chunk_size"), "transport"),
    **dict.fromkeys(("*client", "shared_session", "self", "ssl_verify"), "an object that asks"),
    **dict.fromkeys(("acompletion", "async_call"), "the same question in either colour"),
    **dict.fromkeys(("cache", "cache_key", "caching*", "preset_cache_key", "ttl"), "for caches"),
    **dict.fromkeys(
        (
            *("litellm_*", "_litellm_*", "*callback*", "langfuse_*", "langsmith_*", "arize_*"),
            *("logger_fn", "log_*", "no-log", "turn_off_message_logging", "verbose", "tags"),
            *("parent_otel_span", "proxy_server_request", "user_api_key*"),
        ),
        "records of the call",
    ),
    **dict.fromkeys(
        (
            *("model_info", "model_list", "attempted_targets", "cooldown_time", "weight", "order"),
            *("*_cost_*", "*cost_per_*", "max_budget", "budget_duration", "rpm", "tpm"),
            *("fallback_depth", "max_fallbacks", "original_function", "original_generic_function"),
        ),
        "prices, budgets and routes; the model that is asked in the end counts",
    ),
}
"""Arguments of `litellm.completion` that decide no answer, each with the reason."""

_HEADERS = frozenset({"headers", "extra_headers"})


class LiteLLMCache(Cache):
    """Be the cache of `litellm.completion` and `acompletion`, streamed or not.

        litellm.cache = LiteLLMCache("sqlite:///cache.db")

    Keys are of all arguments but those in IGNORED, so unknown ones, `extra_body`, `api_base` and
    headers less credentials count. A call with an argument that has no stable content is not
    cached, nor an answer that was cut short. `store` is a URL or a Store; a Store that you opened
    is yours to close. `ttl` is in seconds. Calls of other kinds are not cached here.
    """

    def __init__(
        self,
        store: Store | str,
        *,
        namespace: str = "",
        ttl: float | None = None,
        observe: Observer = log,
    ) -> None:
        super().__init__(supported_call_types=["completion", "acompletion"], max_messages=None)
        self.cache = _Backend(store, namespace, policy.check_ttl(ttl), observe)

    def get_cache_key(self, **kwargs: Any) -> str:
        """Name the question that these arguments ask, "" if it is one that cannot be cached."""
        preset = self.get_preset_cache_key_from_kwargs(**kwargs)
        if preset is not None:
            return str(preset)
        body = {name: value for name, value in kwargs.items() if value is not None}
        if _WIRE.refusal(body):
            return ""
        control: Any = kwargs.get("cache") or {}
        deciding = {name: body[name] for name in body if not _is_ignored(name)}
        deciding.setdefault("api_base", litellm.api_base)
        try:
            digest = keys.digest(
                {
                    "arguments": {name: _stable(name, deciding[name]) for name in deciding},
                    "namespace": control.get("namespace"),
                }
            )
        except InputTypeError as error:
            self.cache.refuse(str(error))
            return ""
        return f"{body.get('model', '')}/{digest.hex()}"

    def should_use_cache(self, **kwargs: Any) -> bool:
        """Tell whether this call may be looked up and kept."""
        return bool(super().should_use_cache(**kwargs) and self.get_cache_key(**kwargs))

    def close(self) -> None:
        """Close the store if it was opened here, from a URL."""
        self.cache.close()


def _is_ignored(name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in IGNORED)


def _stable(name: str, value: object) -> object:
    """Write an argument as JSON-like data; what cannot be stays what it is."""
    if name in _HEADERS and isinstance(value, Mapping):
        return {str(header): value[header] for header in value if not is_ignored(str(header))}
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, type) and issubclass(value, BaseModel):
        return {"name": value.__name__, "schema": value.model_json_schema()}
    if isinstance(value, Mapping):
        return {str(key): _stable("", part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_stable("", part) for part in value]
    return value


class _Nobody:
    """Lead no flights: LiteLLM's hook does not say when a call fails."""

    def may_lead(self) -> bool:
        return False

    def lead(self, flights: Flights, flight: Flight) -> None:
        raise NotImplementedError

    def may_wait(self) -> bool:
        return False

    def is_gone(self, flight: Flight) -> bool:
        raise NotImplementedError


class _Backend(BaseCache):
    def __init__(
        self, store: Store | str, namespace: str, ttl: float | None, observe: Observer
    ) -> None:
        super().__init__()
        self._store = open_store(store)
        self._owns_store = self._store is not store
        self._namespace = namespace
        self._ttl = ttl
        self._observe = observe

    def refuse(self, reason: str) -> None:
        flow.tell(
            self._observe, Event("refused", 1, self._namespace, reason=reason, code="unidentified")
        )

    def get_cache(self, key: str, **kwargs: Any) -> Any:
        return flow.run(self._looking(key), store=self._store, call=_never, observe=self._observe)

    async def async_get_cache(self, key: str, **kwargs: Any) -> Any:
        return await flow.arun(
            self._looking(key), store=self._store, call=_never, observe=self._observe
        )

    def set_cache(self, key: str, value: Any, **kwargs: Any) -> None:
        steps = self._saving(key, value, kwargs.get("ttl"))
        flow.run(steps, store=self._store, call=_never, observe=self._observe)

    async def async_set_cache(self, key: str, value: Any, **kwargs: Any) -> None:
        steps = self._saving(key, value, kwargs.get("ttl"))
        await flow.arun(steps, store=self._store, call=_never, observe=self._observe)

    async def async_set_cache_pipeline(self, cache_list: Any, **kwargs: Any) -> None:
        for key, value in cache_list:
            await self.async_set_cache(key, value, **kwargs)

    async def disconnect(self) -> None:
        self.close()

    def close(self) -> None:
        if self._owns_store:
            self._store.close()

    def _question(self, key: str) -> Question:
        model, _, digest = key.rpartition("/")
        return Question.of(Subject(self._namespace, KIND, model), digest.encode())

    def _looking(self, key: str) -> flow.Flow:
        terms = Terms(self._store.flights, _Nobody(), flow.now())
        return chat.lookup_flow(self._question(key), terms, json.loads)

    def _saving(self, key: str, value: Any, ttl: float | None) -> flow.Flow:
        question = self._question(key)
        try:
            payload = json.dumps(value).encode()
            reply = json.loads(value["response"])
        except (TypeError, ValueError) as error:
            reason = f"the answer is not JSON: {error}"
            return chat.refuse_flow(question, "not_plain", reason, Flights())
        shortfall = _WIRE.shortfall(reply)
        if shortfall is not None:
            return chat.refuse_flow(question, shortfall, SHORTFALLS[shortfall], Flights())
        packed = question.pack(
            payload, {}, now=flow.now(), ttl=self._ttl if ttl is None else policy.check_ttl(ttl)
        )
        return chat.save_flow(question, packed, self._store.flights)


def _never(argument: object) -> object:
    raise AssertionError(f"nothing is asked here, but {argument!r} was")
