"""Who may come in: holders of the gateway's own keys, or of what the providers accept."""

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from askonce.errors import StoreError
from askonce.gateway.api_keys import ApiKey, KeyRing
from askonce.gateway.ledger import Ledger
from askonce.gateway.refusals import RefusedError

_BEARERS: Final = (b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key")
"""Where the SDKs of OpenAI, Anthropic, Azure and Google put the key."""

_NAMESPACE: Final = b"askonce-namespace"


class Prices(Protocol):
    """Know what models cost."""

    def knows(self, model: str) -> bool:
        """Tell whether there is a price for a model."""
        ...


@dataclass(frozen=True)
class Access:
    """Let in whoever has a valid key, as far as the key goes."""

    ring: KeyRing
    ledger: Ledger
    prices: Prices

    async def admit(self, headers: Sequence[tuple[bytes, bytes]], query: str) -> ApiKey:
        """Give the key that a request carries. Raises RefusedError without a valid one."""
        secret = secret_in(headers, query)
        if not secret:
            raise _unknown("no API key was given; send one of this gateway's keys")
        now = time.time()
        try:
            key = await self.ring.afind(secret, now=now)
        except StoreError:
            raise RefusedError(
                503, "the keys cannot be looked up now; try again", "keys_unavailable"
            ) from None
        if key is None:
            raise _unknown("this gateway does not know the API key")
        reason = key.refusal(now)
        if reason is not None:
            raise _unknown(f"the API key is {reason}")
        for name, value in headers:
            if name == _NAMESPACE and value.decode("latin-1") != key.namespace:
                raise RefusedError(
                    403,
                    "a key's namespace is given with the key; it cannot be chosen",
                    "namespace_refused",
                )
        refused = self.ledger.refusal(key, now=now)
        if refused is not None:
            wait = str(max(1, math.ceil(refused.retry_after))).encode()
            raise RefusedError(429, refused.message, refused.reason, [(b"retry-after", wait)])
        self.ledger.note_request(key, now=now)
        return key

    def check_answer(self, key: ApiKey, models: Sequence[str]) -> None:
        """Refuse models that a key does not cover; the first decides. Raises RefusedError."""
        model = models[0]
        for name in models:
            if not key.allows(name):
                message = f"this key does not cover the model {name!r}"
                raise RefusedError(403, message, "model_refused")
        if key.budget_per_day is not None and not self.prices.knows(model):
            raise RefusedError(
                403,
                f"this key has a budget, and no price is known for the model {model!r}; "
                "give it one in the gateway's [[prices]]",
                "price_unknown",
            )

    @staticmethod
    def check_other(key: ApiKey, method: str, path: str) -> None:
        """Refuse what no model or price can be told of. Raises RefusedError."""
        looks = method in ("GET", "HEAD") and "/models" in path
        if looks or (not key.models and key.budget_per_day is None):
            return
        raise RefusedError(
            403,
            "this key is limited to some models or to a budget, and neither can be told for this "
            "path; use a key without such limits",
            "path_refused",
        )


def secret_in(headers: Iterable[tuple[bytes, bytes]], query: str) -> str:
    """Give the API key that a request carries, an empty string if it has none."""
    found = {name: value for name, value in headers if name in _BEARERS}
    for name in _BEARERS:
        if value := found.get(name):
            text = value.decode("latin-1").strip()
            scheme, _, rest = text.partition(" ")
            return rest.strip() if scheme.lower() == "bearer" else text
    for pair in query.split("&"):
        if pair.startswith("key="):
            return pair.removeprefix("key=")
    return ""


def _unknown(message: str) -> RefusedError:
    return RefusedError(401, message, "invalid_api_key", [(b"www-authenticate", b"Bearer")])
