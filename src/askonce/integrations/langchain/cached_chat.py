"""Chat models that are asked once."""

import copy
from collections.abc import Mapping
from typing import Any, cast

from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.utils.utils import LC_ID_PREFIX

from askonce.chat import Question
from askonce.integrations.langchain.cached_answers import Whole, chat_of
from askonce.integrations.langchain.cached_identity import Unidentified, identify_chat
from askonce.integrations.langchain.cached_wrapped import Wrapped, arguments_for
from askonce.leading import Lead


class WrappedChat(Wrapped):
    """Be a chat model that is asked once."""

    def _generate_with_cache(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        if not self._shows_tokens(run_manager, kwargs, async_api=False):
            question = self._question(messages, stop, kwargs)
            if isinstance(question, Question):
                keeper = self._keeper()
                found = keeper.run(keeper.peeking(question, chat_of))
                if found is not None:
                    return _told(found, run_manager)
        parent: Any = super()
        result: ChatResult = parent._generate_with_cache(
            messages, stop=stop, run_manager=run_manager, **kwargs
        )
        return result

    async def _agenerate_with_cache(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        if not self._shows_tokens(run_manager, kwargs, async_api=True):
            question = self._question(messages, stop, kwargs)
            if isinstance(question, Question):
                keeper = self._keeper()
                found = await keeper.arun(keeper.peeking(question, chat_of))
                if found is not None:
                    return _told(found, run_manager)
        parent: Any = super()
        result: ChatResult = await parent._agenerate_with_cache(
            messages, stop=stop, run_manager=run_manager, **kwargs
        )
        return result

    def _shows_tokens(self, run_manager: Any, kwargs: Any, *, async_api: bool) -> bool:
        """Tell whether more is to be done for an answer that is there than to give it."""
        model: Any = self
        asked = {"async_api": async_api, "run_manager": run_manager, **kwargs}
        if model.output_version is not None or model._should_stream(**asked):
            return True
        # Versions of LangChain before 1.4 have no such protocol.
        by_protocol = getattr(model, "_should_use_protocol_streaming", None)
        return by_protocol is not None and by_protocol(**asked)

    def _generate(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        keeper = self._keeper()
        found = self._find(keeper, self._question(messages, stop, kwargs), chat_of)
        if found is not None and not isinstance(found, Lead):
            return ChatResult(generations=found)
        model = self._uncached()
        with keeper.asking(found):
            if limiter := self._limiter():
                limiter.acquire(blocking=True)
            arguments = arguments_for(model._generate, run_manager, kwargs)
            result: ChatResult = model._generate(messages, stop=stop, **arguments)
        if found is not None:
            keeper.run(keeper.keeping(found, _as_told(result)))
        return result

    async def _agenerate(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        keeper = self._keeper()
        found = await self._afind(keeper, self._question(messages, stop, kwargs), chat_of)
        if found is not None and not isinstance(found, Lead):
            return ChatResult(generations=found)
        model = self._uncached()
        with keeper.asking(found):
            if limiter := self._limiter():
                await limiter.aacquire(blocking=True)
            arguments = arguments_for(model._agenerate, run_manager, kwargs)
            result: ChatResult = await model._agenerate(messages, stop=stop, **arguments)
        if found is not None:
            await keeper.arun(keeper.keeping(found, _as_told(result)))
        return result

    def _question(
        self, asked: Any, stop: Any, kwargs: Mapping[str, Any], *, streamed: bool = False
    ) -> Question | Unidentified:
        arguments = {**kwargs, "stop": stop}
        wanted = kwargs.get("n") or getattr(self, "n", None)
        if streamed and isinstance(wanted, int) and wanted > 1:
            # A stream has one of several answers: neither serves the other.
            arguments["\0streamed"] = True
        return identify_chat(cast("Any", self), asked, arguments, self._keeper().scope)


def _told(generations: list[ChatGeneration], run_manager: Any) -> ChatResult:
    """Tell of an answer that is there as LangChain tells of one that a model just gave."""
    for index, generation in enumerate(generations):
        message = vars(generation.message)
        if run_manager is not None:
            message["id"] = f"{LC_ID_PREFIX}-{run_manager.run_id}-{index}"
        if generation.generation_info:
            metadata = generation.generation_info | message["response_metadata"]
            message["response_metadata"] = metadata
    return ChatResult(generations=generations)


def _as_told(result: ChatResult) -> Whole:
    """Give an answer as LangChain will tell of it: with what holds for all of it in its message."""
    generations = result.generations
    if len(generations) == 1 and result.llm_output:
        told = copy.copy(generations[0])
        metadata = result.llm_output | (told.generation_info or {}) | told.message.response_metadata
        told.message = told.message.model_copy(update={"response_metadata": metadata})
        return Whole([told])
    return Whole(generations)
