"""What wrapped models have in common, and what stands in front of a model's class for it.

Only the verbs are replaced that LangChain's own classes call. Everything else of the model, and
all that LangChain does around these verbs (callbacks, ids, events), is as it was, on a hit as on a
miss.
"""

import functools
import inspect
from collections.abc import Mapping
from typing import Any, TypeVar, cast

from langchain_core.rate_limiters import BaseRateLimiter

from askonce.chat import Decode, Question
from askonce.integrations.langchain.cached_identity import FIELD, Unidentified
from askonce.integrations.langchain.cached_keeper import Keeper
from askonce.leading import Lead

SLOTS = (
    "__dict__",
    "__pydantic_extra__",
    "__pydantic_fields_set__",
    "__pydantic_private__",
)
"""Where a pydantic model has its state."""

Answer = TypeVar("Answer")


class OnMisses(BaseRateLimiter):
    """Let LangChain pass, which asks before it is known whether there is an answer."""

    def __init__(self, limiter: BaseRateLimiter) -> None:
        self.limiter = limiter

    def acquire(self, *, blocking: bool = True) -> bool:
        return True

    async def aacquire(self, *, blocking: bool = True) -> bool:
        return True


class Wrapped:
    """Be what all wrapped models have in common."""

    askonce_wrapped: type[Any]
    """The class of the model before it was wrapped."""

    def _keeper(self) -> Keeper:
        return cast("Keeper", vars(self)[FIELD])

    def _uncached(self) -> Any:
        """Give the model as it was before: another object, of one state with this one."""
        twin = object.__new__(self.askonce_wrapped)
        for slot in SLOTS:
            object.__setattr__(twin, slot, getattr(self, slot))
        return twin

    def _question(
        self, asked: Any, stop: Any, kwargs: Mapping[str, Any], *, streamed: bool = False
    ) -> Question | Unidentified:
        """Name the question of a call."""
        raise NotImplementedError

    def _find(
        self, keeper: Keeper, question: Question | Unidentified, decode: Decode[Answer]
    ) -> Answer | Lead | None:
        """Find an answer or lead; None if the call has no key."""
        if not keeper.knows(question):
            return None
        found: Answer | Lead = keeper.run(keeper.finding(question, decode))
        return found

    async def _afind(
        self, keeper: Keeper, question: Question | Unidentified, decode: Decode[Answer]
    ) -> Answer | Lead | None:
        if not keeper.knows(question):
            return None
        found: Answer | Lead = await keeper.arun(keeper.finding(question, decode))
        return found

    def _limiter(self) -> BaseRateLimiter | None:
        limiter = vars(self).get("rate_limiter")
        return limiter.limiter if isinstance(limiter, OnMisses) else None


def arguments_for(verb: Any, run_manager: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Add the run manager for a verb that has it as an argument."""
    if run_manager is None or not _takes_run_manager(verb.__func__):
        return kwargs
    return {**kwargs, "run_manager": run_manager}


@functools.lru_cache(maxsize=256)
def _takes_run_manager(function: Any) -> bool:
    return "run_manager" in inspect.signature(function).parameters
