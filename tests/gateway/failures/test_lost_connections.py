"""Connections to a provider that are lost: what was sent on them."""

import json

import pytest

from tests.gateway.answers import Fault, Response, plain
from tests.gateway.failures.asking import CHAT, question
from tests.gateway.in_process import InProcess, settled
from tests.gateway.questions import Question


class Tired:
    """Be a provider in this process that breaks off the second time on each connection."""

    def __init__(self):
        self.bodies = []

    def __call__(self, asked):
        self.bodies.append((asked.path, asked.body))
        if len(self.bodies) == 2:
            return Response([Fault.RESET], "00000000", False, 0, closes=True)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        body = json.dumps(plain(CHAT, "well")).encode()
        return Response([head % len(body) + body], "00000000", True, 200)


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_an_upload_is_whole_or_it_fails(is_chunked):
    """What has gone out on a connection that was lost cannot be sent once more."""
    tired = Tired()
    body = b"0123456789" * 500
    upload = Question("POST", "/v1/files", [(b"host", b"x")], body)
    upload.chunks = [body[:1000], body[1000:]] if is_chunked else None
    async with InProcess(tired) as served:
        assert (await served.ask(question())).status == 200
        await settled()
        got = await served.ask(upload)
        assert got.status == 502, got
        assert (await served.ask(upload)).status == 200
    assert {sent for path, sent in tired.bodies if path == "/v1/files"} == {body}


async def test_a_question_that_was_not_heard_is_asked_again():
    tired = Tired()
    async with InProcess(tired) as served:
        assert (await served.ask(question())).status == 200
        await settled()
        assert (await served.ask(question(prompt="other"))).status == 200
    assert len(tired.bodies) == 3
