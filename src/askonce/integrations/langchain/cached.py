"""Models of LangChain that are asked once, streamed or not."""

import copy
import functools
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, TypeVar

from langchain_core.language_models import BaseChatModel, BaseLLM
from langchain_core.stores import BaseStore
from pydantic import Field

from askonce import chat
from askonce.core.store import Store
from askonce.errors import InputTypeError
from askonce.events import Observer, log
from askonce.integrations.langchain.cached_chat import WrappedChat
from askonce.integrations.langchain.cached_identity import FIELD
from askonce.integrations.langchain.cached_keeper import Keep, Keeper
from askonce.integrations.langchain.cached_llm import WrappedLLM
from askonce.integrations.langchain.cached_streams import Streaming
from askonce.integrations.langchain.cached_wrapped import SLOTS, OnMisses, Wrapped

Model = TypeVar("Model", BaseChatModel, BaseLLM)


def cached(
    model: Model,
    *,
    store: Store | str | BaseStore[str, bytes],
    namespace: str = "",
    ttl: float | None = None,
    sample: int = 0,
    keep: Keep | None = None,
    ignore: Iterable[str] = (),
    wait: float = chat.DEFAULT_WAIT,
    observe: Observer = log,
) -> Model:
    """Give a copy of a chat model or completion model that asks once and keeps the answer.

    It is one of the model's own class, with all of its methods and settings, which may be changed:
    what they are when it is called decides the answer. `ttl` is in seconds; `namespace` is a hard
    partition; `sample` tells which draw of a random answer is meant. `keep` is shown a finished
    answer (a message, or the text of a completion) and decides whether it is kept; without it
    those cut short by a length or a filter are not. `ignore` names settings and arguments that do
    not decide the answer. Of calls that ask the same at the same moment one asks the model, and
    another waits up to `wait` seconds for it. Raises InputError for values that cannot be used.
    """
    if not isinstance(model, BaseChatModel | BaseLLM):
        raise InputTypeError(
            f"a {type(model).__qualname__} is not a chat model or LLM; wrap the model itself and "
            "bind tools, arguments or a schema to the wrapped one: cached(model).bind_tools(...)"
        )
    keeper = Keeper(
        store,
        namespace=namespace,
        ttl=ttl,
        sample=sample,
        keep=keep,
        ignore=ignore,
        wait=wait,
        observe=observe,
    )
    changes: dict[str, Any] = {FIELD: keeper, "cache": False}
    limiter = vars(model).get("rate_limiter")
    if limiter is not None and not isinstance(limiter, OnMisses):
        changes["rate_limiter"] = OnMisses(limiter)
    wrapped: Model = _copy_as(_wrapper(type(model)), model, changes)
    return wrapped


@functools.lru_cache(maxsize=256)
def _wrapper(wrapped: type[Any]) -> Any:
    """Make the class of a wrapped model, a subclass of the model's own that goes by its name."""
    if issubclass(wrapped, Wrapped):
        return wrapped
    is_chat = issubclass(wrapped, BaseChatModel)
    base: type[Any] = BaseChatModel if is_chat else BaseLLM
    verbs: tuple[type[Any], ...] = (WrappedChat if is_chat else WrappedLLM,)
    if wrapped._stream is not base._stream or wrapped._astream is not base._astream:
        verbs = (Streaming, *verbs)
    namespace = {
        "__module__": wrapped.__module__,
        "__qualname__": wrapped.__qualname__,
        "__doc__": wrapped.__doc__,
        "__annotations__": {FIELD: Any, "askonce_wrapped": ClassVar[type[Any]]},
        FIELD: Field(default=None, exclude=True, repr=False),
        "askonce_wrapped": wrapped,
    }
    metaclass: Any = type(wrapped)
    return metaclass(wrapped.__name__, (*verbs, wrapped), namespace)


def _copy_as(kind: type[Any], model: Any, changes: Mapping[str, Any]) -> Any:
    """Make an object of this class with the state of a model, and these changes of it."""
    made = object.__new__(kind)
    for slot in SLOTS:
        object.__setattr__(made, slot, copy.copy(getattr(model, slot)))
    vars(made).update(changes)
    return made
