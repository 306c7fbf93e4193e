"""Models that stream, and count how often they are asked."""

import threading
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.llms import BaseLLM
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import (
    ChatGeneration,
    ChatGenerationChunk,
    ChatResult,
    Generation,
    GenerationChunk,
    LLMResult,
)
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import Field

_lock = threading.Lock()
USAGE = {"input_tokens": 5, "output_tokens": 10, "total_tokens": 15}


class Calls(list):
    """Count, and hold calls up at a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()

    def enter(self, verb: str, asked: Any) -> int:
        with _lock:
            self.append((verb, asked))
            number = len(self)
        assert self.gate.wait(60)
        return number


class StreamingChat(BaseChatModel):
    """Answer "answer <n> of <model_name>", word by word in a stream; with a tool call if bound."""

    model_name: str = "streaming"
    temperature: float | None = None
    streaming: bool = False
    n: int = 1
    break_after: int | None = None
    finish_reason: str = "stop"
    calls: Calls = Field(default_factory=Calls, exclude=True)

    @property
    def _llm_type(self) -> str:
        return "streaming"

    @property
    def verbs(self) -> list[str]:
        return [verb for verb, _ in self.calls]

    def bind_tools(self, tools, *, tool_choice=None, **kwargs: Any):
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    def _generate(self, messages, stop=None, run_manager=None, **kwargs: Any) -> ChatResult:
        number = self.calls.enter("generate", (messages, stop, kwargs))
        generations = []
        for _ in range(kwargs.get("n", self.n)):
            message = AIMessage(
                f"answer {number} of {self.model_name}",
                usage_metadata=USAGE,
                response_metadata={"model_name": self.model_name},
                tool_calls=[
                    {"name": tool["function"]["name"], "args": {"value": number}, "id": "call_1"}
                    for tool in kwargs.get("tools", ())
                ],
            )
            info = {"finish_reason": self.finish_reason}
            generations.append(ChatGeneration(message=message, generation_info=info))
        return ChatResult(generations=generations, llm_output={"token_usage": {"total": 15}})

    def _stream(self, messages, stop=None, run_manager=None, **kwargs: Any):
        number = self.calls.enter("stream", (messages, stop, kwargs))
        for index, chunk in enumerate(self.chunks(number, kwargs.get("tools", ()))):
            if index == self.break_after:
                raise ConnectionResetError("the provider hung up")
            if run_manager:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    def chunks(self, number, tools):
        metadata = {"model_provider": "tests"}
        for word in ("answer", f" {number}", " of", f" {self.model_name}"):
            yield ChatGenerationChunk(
                message=AIMessageChunk(word, response_metadata=dict(metadata))
            )
        for tool in tools:
            name = tool["function"]["name"]
            for arguments in ({"name": name, "args": ""}, {"name": None, "args": '{"val'}, {"name": None, "args": f'ue": {number}}}'}):
                call = tool_call_chunk(id="call_1" if arguments["name"] else None, index=0, **arguments)
                yield ChatGenerationChunk(message=AIMessageChunk("", tool_call_chunks=[call]))
        yield ChatGenerationChunk(
            message=AIMessageChunk("", response_metadata={"model_name": self.model_name}),
            generation_info={"finish_reason": self.finish_reason},
        )
        yield ChatGenerationChunk(
            message=AIMessageChunk("", usage_metadata=USAGE, chunk_position="last")
        )


class AsyncStreamingChat(StreamingChat):
    """Have async verbs of its own."""

    async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs: Any) -> ChatResult:
        return self._generate(messages, stop, **kwargs)

    async def _astream(self, messages, stop=None, run_manager=None, **kwargs: Any):
        for chunk in self._stream(messages, stop, **kwargs):
            if run_manager:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk


class StreamingLLM(BaseLLM):
    """Complete prompts in batches with the number of the call, by characters in a stream."""

    model_name: str = "completing"
    temperature: float = 0.0
    calls: Calls = Field(default_factory=Calls, exclude=True)

    @property
    def _llm_type(self) -> str:
        return "streaming-llm"

    def _generate(self, prompts, stop=None, run_manager=None, **kwargs: Any) -> LLMResult:
        number = self.calls.enter("generate", (prompts, stop, kwargs))
        return LLMResult(
            generations=[[Generation(text=f"{prompt}: {number}")] for prompt in prompts],
            llm_output={"token_usage": {"total_tokens": 10 * len(prompts)}},
        )

    def _stream(self, prompt, stop=None, run_manager=None, **kwargs: Any):
        number = self.calls.enter("stream", (prompt, stop, kwargs))
        for character in f"{prompt}: {number}":
            chunk = GenerationChunk(text=character)
            if run_manager:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk
