"""A provider that knows its keys, and says in each answer who has asked and what."""

import hashlib
import json

from tests.http import server as servers

CHAT, VECTORS = "/v1/chat/completions", "/v1/embeddings"
PROVIDERS_KEY = "sk-providers-own-0123456789"


def who(headers, target):
    """Name the credentials of a request without telling them."""
    names = ("authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie")
    found = sorted(
        (name.lower(), value)
        for name, value in headers
        if name.lower() in (*names, "openai-organization", "openai-project")
    )
    key = [pair for pair in target.partition("?")[2].split("&") if pair.startswith("key=")]
    return hashlib.sha256(json.dumps([found, key]).encode()).hexdigest()[:16]


class Strict:
    """Be a provider that knows its keys, and says in each answer who has asked and what."""

    def __init__(self):
        self.accepts = {"sk-good-one", "sk-good-two", PROVIDERS_KEY}
        self.extra = ()

    def __call__(self, asked):
        secrets = [
            (asked.header(name) or "").removeprefix("Bearer ")
            for name in ("authorization", "x-api-key", "api-key", "x-goog-api-key")
        ]
        query = asked.target.partition("?")[2]
        secrets += [pair[4:] for pair in query.split("&") if pair.startswith("key=")]
        given = [secret for secret in secrets if secret]
        if not given or not self.accepts.issuperset(given):
            error = {"message": "Incorrect API key provided", "code": "invalid_api_key"}
            return servers.plain({"error": error}, 401)
        name = who(asked.headers, asked.target)
        if asked.method == "POST" and asked.target.partition("?")[0] == VECTORS:
            told = asked.json()["input"]
            inputs = told if isinstance(told, list) else [told]
            data = [
                {"object": "embedding", "index": place, "embedding": vector(name, content)}
                for place, content in enumerate(inputs)
            ]
            usage = {"prompt_tokens": 1, "total_tokens": 1}
            answer = {"object": "list", "data": data, "model": "m", "usage": usage}
            return servers.plain(answer, 200, *self.extra)
        if asked.method == "POST" and asked.target.partition("?")[0] == CHAT:
            body = asked.json()
            text = f"{name}: {body['messages'][0]['content']}"
            if body.get("stream"):
                return servers.chunked(servers.events(text), *self.extra)
            return servers.plain(servers.completion(text), 200, *self.extra)
        return servers.plain({"for": name}, 200, *self.extra)


def vector(name, content):
    return [byte / 256 for byte in hashlib.sha256(f"{name}: {content}".encode()).digest()[:6]]
