"""Requests and answers of which a good part is broken: always an answer, never somebody else's."""

import asyncio
import json
import random
import zlib

import pytest

from askonce.core import flow
from askonce.gateway import acceptance
from tests.gateway.answers import MARK, read_vector
from tests.gateway.in_process import Got, InProcess, settled
from tests.gateway.questions import Question
from tests.gateway.random_answers import Answers
from tests.gateway.random_questions import Questions


class Judge:
    """Tell whether an answer may be given, by what was asked and what the provider has said."""

    def __init__(self, served: InProcess) -> None:
        self.served = served
        self.said = served.provider.said
        self.hits = 0

    def judge(self, got: Got) -> None:
        question = got.question
        assert question is not None
        told = f"{question}"[:3000] + f"\n-> {got.status} {got.headers} {got.body[:1000]!r}"
        if question.leaves is None:
            assert got.status, f"no answer: {told}"
        assert b"Internal Server Error" not in got.body, told
        marks = self._marks(got)
        # Who is not accepted is told so in the words of the answer to the check.
        if got.status != 401:
            for digest, nonce in marks:
                assert digest == question.digest, f"another's answer ({nonce}): {told}"
        if question.leaves is not None:
            return
        own = got.outcome.rpartition("askonce; ")
        if own[1] and (own[2].startswith("hit") or "collapsed" in own[2]):
            self._judge_kept(got, question, marks, told)
        elif marks:
            self._judge_passed(got, question, marks[0][1], told)
        elif got.status >= 500 and b"askonce:" in got.body:
            assert got.status in (502, 504), told

    def _judge_kept(
        self, got: Got, question: Question, marks: list[tuple[str, str]], told: str
    ) -> None:
        self.hits += 1
        assert got.status == 200 and got.is_whole, told
        if question.is_embeddings:
            marks = self._vectors(got, question, told)
        assert marks, told
        for _, nonce in marks:
            assert self.said[nonce].is_good is not False, f"a broken answer was kept: {told}"

    def _judge_passed(self, got: Got, question: Question, nonce: str, told: str) -> None:
        said = self.said[nonce]
        if said.is_good and said.payload and question.method != "HEAD":
            assert got.is_whole and got.status == said.status, f"not as it was: {told}"
            assert self._decoded(got) == said.payload, f"not as it was: {told}"

    def _marks(self, got: Got) -> list[tuple[str, str]]:
        return [(a.decode(), b.decode()) for a, b in MARK.findall(self._decoded(got))]

    def _decoded(self, got: Got) -> bytes:
        if got.headers.get("content-encoding") == "gzip":
            try:
                return zlib.decompressobj(31).decompress(got.body)
            except zlib.error:
                return got.body
        return got.body

    def _vectors(self, got: Got, question: Question, told: str) -> list[tuple[str, str]]:
        given = question.fields["input"]
        inputs = given if isinstance(given, list) and not isinstance(given[0], int) else [given]
        data = json.loads(self._decoded(got))["data"]
        assert len(data) == len(inputs), told
        found = [read_vector(item["embedding"]) for item in data]
        for (digest, _), content in zip(found, inputs, strict=True):
            assert question.digest_of(content).startswith(digest), f"another's vector: {told}"
        return found

    def judge_store(self) -> None:
        """Look at all that was kept."""
        state = self.served.gateway._state
        assert state is not None
        keys = list(state.store.keys())
        for blob in state.store.read(keys):
            for _, nonce in MARK.findall(blob or b""):
                assert self.said[nonce.decode()].is_good is not False, "a broken answer was kept"


async def fuzz(seed: int, cases: int, **sections) -> Judge:
    """Ask so many generated questions, some of them at once."""
    source = random.Random(seed)
    questions, answers = Questions(source), Answers(source)
    async with InProcess(answers.to, **sections) as served:
        judge = Judge(served)
        asked = 0
        while asked < cases:
            together = [questions.make() for _ in range(source.choice((1, 1, 2, 4)))]
            if len(together) > 1 and source.random() < 0.5:
                together[1] = together[0]
            asked += len(together)
            for got in await asyncio.gather(*(served.ask(one) for one in together)):
                judge.judge(got)
            assert not served.problems, f"{served.problems}: {together}"[:5000]
        await settled()
        judge.judge_store()
        assert served.provider.hosts <= {("up.test", 80)}
        for path in (b"/metrics", b"/healthz", b"/readyz"):
            own = await served.send(b"GET " + path + b" HTTP/1.1\r\nhost: x\r\n\r\n")
            assert own.status == 200
        left = [task for task in asyncio.all_tasks() if not task.done()]
        assert len(left) < 10, left
    return judge


UPSTREAM = {"name": "fake", "base_url": "http://up.test/v1", "paths": ["/v1/*"]}
SETTINGS = {
    "plain": {},
    "checked": {"upstreams": [{**UPSTREAM, "check": "/v1/models"}]},
    "lenient": {
        "cache": {
            "store": "memory://",
            "ttl": 0.05,
            "stale_if_error": 60,
            "stale_while_revalidate": 0.05,
            "on_disconnect": "finish",
        }
    },
    "verified often": {"access": {"verify_for": 0.01}},
}


class Clock:
    """Go on a millisecond with every look, whatever else the machine does."""

    now = 1_800_000_000.0

    def time(self):
        self.now += 0.001
        return self.now


@pytest.mark.parametrize("name", SETTINGS)
async def test_always_an_answer_and_never_somebody_elses(name, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(acceptance, "time", clock)
    monkeypatch.setattr(flow, "now", clock.time)
    judge = await fuzz(len(name), 1200, **SETTINGS[name])
    assert judge.hits > 30


async def test_one_answer_too_many_answers_nobody():
    """A provider that says more than it was asked must not answer the next question by it."""

    def answer(question):
        answers = Answers(random.Random(1), broken=0)
        response = answers.to(question)
        more = answers.to(Question("GET", "/v1/other", []))
        whole = b"".join([*response.pieces])
        said = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong" + b"".join(more.pieces)
        response.pieces = [_with_length(whole, response.payload) + said]
        response.closes = False
        return response

    async with InProcess(answer) as served:
        for number in range(20):
            asked = Question("GET", f"/v1/models/{number}", [(b"host", b"x")])
            got = await served.ask(asked)
            assert got.status == 200
            assert MARK.findall(got.body)[0][0].decode() == asked.digest


def _with_length(whole: bytes, payload: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(payload), payload)


async def test_connections_are_used_again():
    """Else what keeps answers apart would cost a connection for each."""
    answers = Answers(random.Random(1), broken=0)

    def answer(question):
        response = answers.to(question)
        response.pieces = [_with_length(b"", response.payload)]
        response.closes = False
        return response

    async with InProcess(answer) as served:
        for number in range(20):
            await served.ask(Question("GET", f"/v1/models/{number}", [(b"host", b"x")]))
        assert len(served.provider.connections) == 1
