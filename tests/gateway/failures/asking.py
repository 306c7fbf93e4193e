"""How a gateway is asked while something fails around it, and how its answers are waited for."""

import json
import time

import httpx2

from tests.gateway.questions import Question

CHAT, VECTORS = "/v1/chat/completions", "/v1/embeddings"
HTTP = httpx2.Client(trust_env=False, verify=False, limits=httpx2.Limits(max_connections=None))
PATIENCE = 60.0
"""Seconds after which what should come about counts as lost."""


def asking(prompt, **more):
    return {"model": "m", "messages": [{"role": "user", "content": prompt}], **more}


def ask(running, prompt, path=CHAT, *, timeout=PATIENCE, headers=(), **more):
    is_batch = path.endswith(VECTORS)
    content = {"model": "m", "input": prompt} if is_batch else asking(prompt, **more)
    return HTTP.post(
        running.address + path,
        json=content,
        headers={"authorization": "Bearer sk", **dict(headers)},
        timeout=timeout,
    )


def is_hit(reply):
    """Tell whether an answer was kept before; it may be on its way into the store still."""
    return "askonce; hit" in reply.headers["cache-status"] or "collapsed" in reply.headers["cache-status"]


def ask_anew(running, prompt, **more):
    """Ask until the answer is not that of somebody who was asking already."""
    while "collapsed" in (reply := ask(running, prompt, **more)).headers.get("cache-status", ""):
        pass
    return reply


def kept(running, prompt, **more):
    """Ask, and give the answer when it is in the store."""
    control = {"cache-control": "only-if-cached, stale-while-revalidate=3600"}
    replies = []

    def is_kept():
        # A store that was not in time for it has not got it.
        replies.append(ask(running, prompt, **more))
        assert replies[-1].status_code == 200
        return ask(running, prompt, headers=control, **more).status_code == 200

    until(is_kept, "it is kept")
    return replies[-1]


def until(condition, what):
    """Look until something has come about; each look is a request or as slow as one."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < PATIENCE, what


def question(kind="chat", prompt="gone"):
    headers = [(b"host", b"x"), (b"authorization", b"Bearer sk")]
    if kind == "embeddings":
        return Question("POST", VECTORS, headers, b'{"model": "m", "input": "gone"}')
    body = asking(prompt, stream=True) if kind == "stream" else asking(prompt)
    return Question("POST", CHAT, headers, json.dumps(body).encode())
