"""Answers of one word after another."""

from tests.http.server import completion, plain


def texts(*words):
    """Answer each request with the next word."""
    left = list(words)
    return lambda asked: plain(completion(left.pop(0)))


def text_of(reply):
    return reply.json()["choices"][0]["message"]["content"]
