"""Chat answers: hits through `invoke`, and storing."""

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from langchain_community.cache import SQLiteCache as TheirSQLiteCache
from langchain_core.caches import BaseCache
from langchain_core.caches import InMemoryCache as TheirInMemoryCache
from langchain_core.language_models import BaseChatModel
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from askonce.integrations.langchain import InMemoryCache, SQLiteCache
from benchmarks import samples
from benchmarks.frame import Comparison, Contender, Contest

COUNT = 100
THEIR_MEMORY = "LangChain InMemoryCache"
THEIR_SQLITE = "community SQLiteCache"
OUR_MEMORY = "askonce InMemoryCache"
OUR_SQLITE = "askonce SQLiteCache"
_ANSWER = samples.passages(1, words=170)[0]


class PreparedChat(BaseChatModel):
    """Answer at once, with all that a provider's message carries."""

    model_name: str = "prepared-1"
    temperature: float = 0.0
    max_tokens: int = 1000

    @classmethod
    def is_lc_serializable(cls) -> bool:
        return True

    @property
    def _llm_type(self) -> str:
        return "prepared"

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        return ChatResult(generations=[answer()])


def answer() -> ChatGeneration:
    return ChatGeneration(
        message=AIMessage(
            content=_ANSWER,
            response_metadata={
                "token_usage": {"completion_tokens": 250, "prompt_tokens": 2000},
                "model_name": "prepared-1",
                "system_fingerprint": "fp_1",
                "finish_reason": "stop",
                "logprobs": None,
            },
            usage_metadata={"input_tokens": 2000, "output_tokens": 250, "total_tokens": 2250},
        ),
        generation_info={"finish_reason": "stop", "logprobs": None},
    )


def contests(folder: Path) -> Iterator[Contest]:
    openers: dict[str, Callable[[Path], BaseCache]] = {
        THEIR_MEMORY: lambda _: TheirInMemoryCache(),
        THEIR_SQLITE: lambda path: TheirSQLiteCache(str(path)),
        OUR_MEMORY: lambda _: InMemoryCache(),
        OUR_SQLITE: lambda path: SQLiteCache(str(path)),
    }
    for kind, prompts in (("8 kB prompt", _long_prompts()), ("short prompt", _short_prompts())):
        models = {
            name: PreparedChat(cache=opener(folder / f"{kind}-{name}.db"))
            for name, opener in openers.items()
        }

        def ask(model: PreparedChat, prompts=prompts) -> None:
            for prompt in prompts:
                model.invoke(prompt)

        for model in models.values():
            ask(model)
        yield Contest(
            f"hit, {kind}",
            "µs per invoke",
            [
                Contender(name, lambda _, model=model, ask=ask: ask(model))
                for name, model in models.items()
            ],
            [
                Comparison(THEIR_SQLITE, THEIR_MEMORY),
                Comparison(OUR_MEMORY, THEIR_MEMORY),
                Comparison(OUR_SQLITE, THEIR_MEMORY, 1 / 1.5),
                Comparison(OUR_SQLITE, THEIR_SQLITE, 3),
            ],
            units=COUNT,
        )

        keys = [dumps(prompt) for prompt in prompts]
        llm_string = models[THEIR_MEMORY]._get_llm_string()
        serial = itertools.count()

        def new_answers(keys=keys, serial=serial) -> dict[str, list[ChatGeneration]]:
            return {
                key.replace("passage", f"passage {next(serial)}", 1): [answer()] for key in keys
            }

        def store(contender: Contender, new_answers=new_answers, llm_string=llm_string) -> float:
            """Time updates alone, each after the lookup that a model would have made."""
            cache = models[contender.name].cache
            seconds = 0.0
            for key, generations in new_answers().items():
                assert cache.lookup(key, llm_string) is None
                begin = time.perf_counter()
                cache.update(key, llm_string, generations)
                seconds += time.perf_counter() - begin
            return seconds

        yield Contest(
            f"storing an answer, {kind}",
            "µs per update",
            [Contender(name, lambda _: None) for name in models],
            [
                Comparison(OUR_MEMORY, THEIR_SQLITE),
                Comparison(OUR_SQLITE, THEIR_SQLITE, 50),
            ],
            units=COUNT,
            measure=store,
        )


def _long_prompts() -> list[list[BaseMessage]]:
    return [
        [SystemMessage("Answer from this passage alone."), HumanMessage(f"passage {passage}")]
        for passage in samples.passages(COUNT, words=1400)
    ]


def _short_prompts() -> list[list[BaseMessage]]:
    return [[HumanMessage(f"What is the best passage number {n}?")] for n in range(COUNT)]
