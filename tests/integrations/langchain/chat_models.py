"""Models for the tests that count how often they are asked."""

import threading
import time
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.llms import LLM
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import Field

_lock = threading.Lock()


class CountingChat(BaseChatModel):
    """Answer with the number of the call; `pause` seconds long, or fail with `error`."""

    model_name: str = "counting"
    pause: float = 0.0
    error: str = ""
    usage: bool = True
    calls: list[list[BaseMessage]] = Field(default_factory=list, exclude=True)

    @property
    def _llm_type(self) -> str:
        return "counting"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": self.model_name}

    def _generate(self, messages, stop=None, run_manager=None, **kwargs: Any) -> ChatResult:
        with _lock:
            self.calls.append(messages)
            number = len(self.calls)
        if self.pause:
            threading.Event().wait(self.pause)
        if self.error:
            raise PermissionError(self.error)
        return self.answer(number)

    def answer(self, number: int) -> ChatResult:
        message = AIMessage(
            content=f"answer {number}",
            response_metadata={"model_name": self.model_name, "token_usage": {"total_tokens": 15}},
            usage_metadata=(
                {"input_tokens": 5, "output_tokens": 10, "total_tokens": 15} if self.usage else None
            ),
        )
        info = {"finish_reason": "stop"}
        return ChatResult(
            generations=[ChatGeneration(message=message, generation_info=info)],
            llm_output={"system_fingerprint": "fp"},
        )


class SerializableChat(CountingChat):
    """Be keyed by LangChain as the models of its partner packages are."""

    temperature: float = 0.0
    max_retries: int = 2
    request_timeout: float | None = None
    streaming: bool = False
    api_key: str = "secret"

    @classmethod
    def is_lc_serializable(cls) -> bool:
        return True

    @property
    def lc_secrets(self) -> dict[str, str]:
        return {"api_key": "SOME_API_KEY"}


class CountingLLM(LLM):
    """Complete a prompt with the number of the call."""

    pause: float = 0.0
    error: str = ""
    calls: list[str] = Field(default_factory=list, exclude=True)

    @property
    def _llm_type(self) -> str:
        return "counting-llm"

    def _call(self, prompt, stop=None, run_manager=None, **kwargs: Any) -> str:
        self.calls.append(prompt)
        if self.pause:
            time.sleep(self.pause)
        if self.error:
            raise PermissionError(self.error)
        return f"{prompt}: {len(self.calls)}"
