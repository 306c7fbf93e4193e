"""Several clients at one gateway."""

import functools
import json

import httpx2
import openai

from tests.gateway.clients.sdks import CHAT, ask_anthropic, ask_openai, with_client
from tests.gateway.comparing import MODEL

pytest_plugins = ["tests.parts.fixtures", "tests.gateway.scenes"]


def test_what_an_sdk_asked_a_shell_streams(compare):
    before = compare.sides.count()
    count, text = compare.asked_by(
        lambda: ask_openai(
            lambda client: client.chat.completions.create(**CHAT).choices[0].message.content
        )
    )
    assert count == 1
    with httpx2.stream(
        "POST",
        f"{compare.sides.through}/v1/chat/completions",
        content=json.dumps({"stream": True, **CHAT}),
        headers={"authorization": f"Bearer {compare.key}", "content-type": "text/plain"},
        trust_env=False,
    ) as reply:
        lines = [line.removeprefix("data: ") for line in reply.iter_lines() if line]
    assert compare.sides.count() == before + 1
    assert lines.pop() == "[DONE]"
    assert "".join(json.loads(line)["choices"][0]["delta"].get("content") or "" for line in lines) == text


def test_clients_of_two_providers_share_a_gateway_and_no_answer(compare):
    asked = {"model": MODEL, "messages": CHAT["messages"], "max_tokens": 100}
    cold = {"extra_body": {"temperature": 0}}

    def both():
        chat = ask_openai(lambda client: client.chat.completions.create(**asked, **cold))
        message = ask_anthropic(lambda client: client.messages.create(**asked, **cold))
        return chat.to_dict(), message.to_dict()

    count, first = compare.asked_by(both)
    assert count == 2
    assert first[0]["object"] == "chat.completion"
    assert first[1]["type"] == "message"
    assert compare.asked_by(both) == (0, first)


def test_another_key_of_a_client_shares_nothing(compare, monkeypatch):
    def ask(key):
        return lambda: with_client(
            functools.partial(openai.OpenAI, api_key=key),
            lambda client: client.chat.completions.create(**CHAT).id,
        )

    count, first = compare.asked_by(ask(compare.key))
    assert compare.asked_by(ask(compare.key)) == (0, first)
    count, other = compare.asked_by(ask(f"{compare.key}-other"))
    assert (count, other != first) == (1, True)
