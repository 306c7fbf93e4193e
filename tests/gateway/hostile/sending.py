"""Requests as bytes, and one within another that nobody may answer."""

import json

CHAT = "/v1/chat/completions"


def content(prompt="hi", **more):
    body = {"model": "m", "messages": [{"role": "user", "content": prompt}], **more}
    return json.dumps(body).encode()


def post(body, *headers, path=CHAT, length=True):
    lines = [f"POST {path} HTTP/1.1".encode(), b"Host: x", b"Authorization: Bearer sk", *headers]
    if length:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"", body])


SMUGGLED = b"GET /v1/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


def smuggled(provider, since):
    return [asked for asked in provider.asked[since:] if "smuggled" in asked.target]
