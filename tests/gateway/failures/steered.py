"""A provider that answers each prompt by its own, or as a test tells it to."""

import threading

from tests.gateway.failures.asking import PATIENCE, VECTORS
from tests.http import server as servers


class Steered:
    """Be a provider that answers each prompt by its own, or as a test tells it to."""

    def __init__(self):
        self.steps = {}

    def __call__(self, asked):
        if asked.method == "GET":
            return servers.plain({"data": []})
        body = asked.json()
        if asked.target == VECTORS:
            prompt = body["input"]
        else:
            prompt = body["messages"][0]["content"]
        step = self.steps.get(prompt)
        if step is not None:
            return step(asked)
        return proper(asked)

    def count(self, server, prompt):
        return sum(prompt.encode() in asked.body for asked in server.asked)


def proper(asked):
    body = asked.json()
    if asked.target == VECTORS:
        data = [{"object": "embedding", "index": 0, "embedding": [len(body["input"]) / 2, 0.5]}]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        return servers.plain({"object": "list", "data": data, "model": "m", "usage": usage})
    text = f"answer to {body['messages'][0]['content']}"
    if body.get("stream"):
        return servers.chunked(servers.events(text[:4], text[4:]))
    return servers.plain(servers.completion(text))


class Halves:
    """Answer half at first: `begun` counts who got that, `go_on` lets the rest follow."""

    def __init__(self):
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Event()

    def __call__(self, asked):
        pieces = list(proper(asked))
        yield from pieces[:2]
        self.begun.release()
        assert self.go_on.wait(PATIENCE)
        yield from pieces[2:]
