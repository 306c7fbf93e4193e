"""Hits of LiteLLM's in-process cache, one for each line on standard input."""

import os
import sys

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm  # noqa: E402

MESSAGES = [
    {"role": "system", "content": "You answer briefly. " * 20},
    {"role": "user", "content": "Why is the sky blue, and not violet?"},
]
TEXT = "Sunlight is scattered by the air, and blue more than red. " * 20


def ask() -> object:
    return litellm.completion(
        model="gpt-4o-mini", messages=MESSAGES, temperature=0, mock_response=TEXT, caching=True
    )


def main() -> None:
    litellm.cache = litellm.Cache(type="local")
    ask()
    for _ in sys.stdin:
        ask()
        print("done", flush=True)


main()
