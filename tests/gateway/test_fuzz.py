"""Requests and answers of which a good part is broken: always an answer, never somebody else's."""

import asyncio
import gzip
import json
import random
import zlib

import pytest

from tests.gateway.generating import MARK, Generator, Question, embeddings, read_vector
from tests.gateway.in_process import Got, InProcess, settled

OWN = (b'"message":"askonce:', b'"message":"askonce: ')


class Judge:
    """Tell whether an answer may be given, by what was asked and what the provider has said."""

    def __init__(self, served: InProcess) -> None:
        self.served = served
        self.hits = 0
        self.others = 0

    def judge(self, got: Got) -> None:
        question = got.question
        assert question is not None
        told = f"{question}\n-> {got.status} {got.headers}\n{got.body[:2000]!r}"
        if question.leaves is not None:
            self._marks(got, question, told)
            return
        assert got.status, f"no answer: {told}"
        assert b"Internal Server Error" not in got.body, told
        said = self.served.provider.said
        self._marks(got, question, told)
        if got.outcome.rpartition("askonce; ")[2].startswith("hit") or "collapsed" in got.outcome:
            self.hits += 1
            assert got.status == 200 and got.is_whole, told
            if question.is_embeddings:
                self._vectors(got, question, told)
            else:
                marks = self._found(got)
                assert len(marks) >= 1 and got.body.rstrip().endswith((b"}", b"\n\n", b"[DONE]")), told
                for _, nonce in marks:
                    assert said[nonce].is_good is not False, f"a broken answer was kept: {told}"
        elif question.is_embeddings and got.status == 200 and b'"embedding"' in got.body and got.is_whole:
            self.others += 1
        elif got.status >= 500 and b"askonce:" in got.body:
            assert got.status in (502, 503, 504), told

    def _found(self, got: Got) -> list[tuple[str, str]]:
        return [(a.decode(), b.decode()) for a, b in MARK.findall(self._decoded(got))]

    def _decoded(self, got: Got) -> bytes:
        if got.headers.get("content-encoding") == "gzip":
            try:
                return zlib.decompressobj(31).decompress(got.body)
            except zlib.error:
                return got.body
        return got.body

    def _marks(self, got: Got, question: Question, told: str) -> None:
        for digest, nonce in self._found(got):
            assert digest == question.digest, f"another's answer (N{nonce}): {told}"

    def _vectors(self, got: Got, question: Question, told: str) -> None:
        given = question.fields["input"]
        inputs = given if isinstance(given, list) and not isinstance(given[0], int) else [given]
        data = json.loads(got.body)["data"]
        assert len(data) == len(inputs), told
        for item, content in zip(data, inputs, strict=True):
            digest, nonce = read_vector(item["embedding"])
            assert question.digest_of(content).startswith(digest), f"another's vector: {told}"
            assert self.served.provider.said[nonce].is_good is not False, told


async def fuzz(seed: int, cases: int, **sections) -> Judge:
    source = random.Random(seed)
    generator = Generator(source)
    async with InProcess(generator.response, **sections) as served:
        judge = Judge(served)
        asked = 0
        while asked < cases:
            together = [generator.request() for _ in range(source.choice((1, 1, 2, 4)))]
            if len(together) > 1 and source.random() < 0.5:
                together[1] = together[0]
            asked += len(together)
            for got in await asyncio.gather(*(served.ask(one) for one in together)):
                judge.judge(got)
            assert not served.problems, f"{served.problems}: {together}"
        await settled()
        assert served.provider.hosts <= {("up.test", 80)}
        status = await served.send(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
        assert status.status == 200
        tasks = asyncio.all_tasks()
        assert len(tasks) < 10, tasks
    return judge


@pytest.mark.parametrize("seed", range(2))
async def test_fuzz(seed):
    judge = await fuzz(seed, 1500)
    assert judge.hits > 100
