"""Completion models that are asked once."""

from collections.abc import Mapping
from typing import Any, cast

from langchain_core.outputs import Generation, LLMResult

from askonce.chat import Question
from askonce.integrations.langchain.cached_identity import Unidentified, identify_text
from askonce.integrations.langchain.cached_wrapped import Wrapped, arguments_for


class WrappedLLM(Wrapped):
    """Be a completion model that is asked once."""

    def _generate(
        self, prompts: list[str], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> LLMResult:
        keeper, model = self._keeper(), self._uncached()
        outputs: list[Any] = []

        def ask(places: list[int]) -> list[list[Generation]]:
            arguments = arguments_for(model._generate, run_manager, kwargs)
            result = model._generate([prompts[place] for place in places], stop=stop, **arguments)
            outputs.append(result.llm_output)
            return cast("list[list[Generation]]", result.generations)

        questions = keeper.known(self._question(prompt, stop, kwargs) for prompt in prompts)
        if questions is None:
            return LLMResult(generations=ask(list(range(len(prompts)))), llm_output=outputs[0])
        answers = keeper.run(keeper.answering(questions), ask)
        return _result(answers, outputs)

    async def _agenerate(
        self, prompts: list[str], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> LLMResult:
        keeper, model = self._keeper(), self._uncached()
        outputs: list[Any] = []

        async def ask(places: list[int]) -> list[list[Generation]]:
            arguments = arguments_for(model._agenerate, run_manager, kwargs)
            missing = [prompts[place] for place in places]
            result = await model._agenerate(missing, stop=stop, **arguments)
            outputs.append(result.llm_output)
            return cast("list[list[Generation]]", result.generations)

        questions = keeper.known(self._question(prompt, stop, kwargs) for prompt in prompts)
        if questions is None:
            answers = await ask(list(range(len(prompts))))
            return LLMResult(generations=answers, llm_output=outputs[0])
        answers = await keeper.arun(keeper.answering(questions), ask)
        return _result(answers, outputs)

    def _question(
        self, asked: Any, stop: Any, kwargs: Mapping[str, Any], *, streamed: bool = False
    ) -> Question | Unidentified:
        arguments = {**kwargs, "stop": stop}
        return identify_text(cast("Any", self), asked, arguments, self._keeper().scope)


def _result(answers: list[list[Generation]], outputs: list[Any]) -> LLMResult:
    """Make the result of a completion; only what was asked for now took tokens."""
    output: dict[str, Any] = {}
    for told in outputs:
        for name, value in (told or {}).items():
            before = output.get(name)
            if isinstance(before, dict) and isinstance(value, dict):
                output[name] = {
                    key: before.get(key, 0) + value.get(key, 0) for key in before | value
                }
            else:
                output[name] = value
    return LLMResult(generations=answers, llm_output=output)
