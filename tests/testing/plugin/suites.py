"""Tests that ask a model, which the plugin's own tests run."""


HEAD = """
    import pytest
    URL = {url!r}
    HEADERS = {{"authorization": "Bearer sk-secret", "cookie": "session=secret"}}

    def body(text, **more):
        return {{"model": "m", "messages": [{{"role": "user", "content": text}}], **more}}

    def ask(client, text, headers=(), **more):
        headers = {{**HEADERS, **dict(headers)}}
        return client.post(URL + "/chat/completions", json=body(text, **more), headers=headers)

    def said(response):
        return response.json()["choices"][0]["message"]["content"]
"""
ONE = """
    def test_one(askonce_client):
        assert said(ask(askonce_client, "one")) == "one 1"
"""


def run(suite, *options, code=None, **outcomes):
    if code is not None:
        suite.write(code)
    result = suite.run(*options)
    result.assert_outcomes(**outcomes)
    return result


TWO = ONE + """
    def test_two(askonce_client):
        assert said(ask(askonce_client, "two")) == "two 2"
"""
