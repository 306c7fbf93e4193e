"""LangChain's own suites, run on a wrapped model that answers by rote."""

from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from askonce.integrations.langchain import cached
from askonce.stores.memory import MemoryStore

USAGE = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}


class Rote(BaseChatModel):
    """Say what the suites want to hear."""

    model_name: str = "rote"

    @property
    def _llm_type(self) -> str:
        return "rote"

    def bind_tools(self, tools, *, tool_choice=None, **kwargs: Any):
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    def answer(self, messages, tools, model=None) -> dict[str, Any]:
        metadata = {"model_name": model or self.model_name, "model_provider": "rote"}
        said = {"content": "yes", "usage_metadata": USAGE, "response_metadata": metadata}
        if tools and not isinstance(messages[-1], ToolMessage):
            function = tools[0]["function"]
            said["content"] = ""
            said["tool_calls"] = [{"name": function["name"], "args": self.arguments(function), "id": "1"}]
        return said

    def arguments(self, function) -> dict[str, Any]:
        rote = {"input": 3, "customer_name": "你好 こんにちは 株式会社"}
        return {name: rote.get(name, "x") for name in function["parameters"].get("properties", {})}

    def _generate(self, messages, stop=None, run_manager=None, tools=(), model=None, **kwargs: Any) -> ChatResult:
        message = AIMessage(**self.answer(messages, tools, model))
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(self, messages, stop=None, run_manager=None, tools=(), model=None, **kwargs: Any):
        said = self.answer(messages, tools, model)
        usage, metadata = said.pop("usage_metadata"), said.pop("response_metadata")
        if not said["content"]:
            yield ChatGenerationChunk(message=AIMessageChunk(response_metadata=metadata, **said))
        for letter in said["content"]:
            yield ChatGenerationChunk(message=AIMessageChunk(letter))
            metadata = {"model_provider": "rote"} | metadata
        last = AIMessageChunk("", usage_metadata=usage, chunk_position="last")
        if said["content"]:
            last.response_metadata = metadata
        yield ChatGenerationChunk(message=last)


class Asked(Rote):
    """Be wrapped as it is made, as the suites make their model themselves."""

    def __new__(cls, *args: Any, **kwargs: Any):
        if cls is not Asked:
            return super().__new__(cls)
        return cached(Rote(**kwargs), store=MemoryStore())


class Terms:
    @property
    def chat_model_class(self):
        return Asked

    @property
    def chat_model_params(self):
        return {}

    @property
    def supports_json_mode(self):
        return True

    @property
    def model_override_value(self):
        return "rote-2"


class TestUnit(Terms, ChatModelUnitTests):
    pass


class TestIntegration(Terms, ChatModelIntegrationTests):
    pass
