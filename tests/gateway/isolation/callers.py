"""Who asks a gateway, and remembers all that it has told."""

import httpx2

from tests.gateway.isolation.strict_provider import CHAT, VECTORS, vector, who

KINDS = ("chat", "stream", "embeddings")


def content_of(kind, prompt, model="m"):
    if kind == "embeddings":
        return {"model": model, "input": [prompt, prompt + "!"]}
    body = {"model": model, "messages": [{"role": "user", "content": prompt}]}
    return {**body, "stream": True} if kind == "stream" else body


class Caller:
    """Ask a gateway, and remember all that it has told."""

    def __init__(self, running, provider):
        self.running = running
        self.provider = provider
        self.http = httpx2.Client(trust_env=False, timeout=30)
        self.told = []

    def send(self, method, path, credential, content=None, **headers):
        key = credential.get("?key")
        sent = {name: value for name, value in credential.items() if name != "?key"}
        target = path + (f"?key={key}" if key else "")
        reply = self.http.request(
            method,
            self.running.address + target,
            json=content,
            headers={**sent, **headers},
        )
        self.told.append(f"{reply.headers.multi_items()} {reply.text}")
        return reply

    def ask(self, kind, prompt, credential, model="m", **headers):
        path = VECTORS if kind == "embeddings" else CHAT
        return self.send("POST", path, credential, content_of(kind, prompt, model), **headers)

    def asked(self):
        return len(self.provider.asked)


def is_for(reply, kind, prompt, credential):
    """Tell whether an answer is that of this credential to this question."""
    key = credential.get("?key")
    headers = [(name, value) for name, value in credential.items() if name != "?key"]
    name = who(headers, f"/?key={key}" if key else "/")
    if kind == "embeddings":
        rows = [item["embedding"] for item in reply.json()["data"]]
        return rows == [vector(name, prompt), vector(name, prompt + "!")]
    return f"{name}: {prompt}" in reply.text


def is_hit(reply):
    """Tell whether it was kept, or was just being kept for whoever had asked before."""
    status = reply.headers.get("cache-status", "")
    return status.startswith("askonce; hit") or status.endswith("; collapsed")


def bearer(secret):
    return {"authorization": f"Bearer {secret}"}
