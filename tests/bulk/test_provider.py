"""The job with a provider that misbehaves."""

import numpy as np
import pytest

from askonce.bulk import JobError
from askonce.providers import OpenAIEmbedder
from tests.providers.fault_server import Change, Refuse, Say
from tests.providers.fault_server import vectors_of as server_vectors_of


@pytest.fixture
def remote(server):
    made = []

    def make(**settings):
        settings = {"backoff": 0.001, "attempts": 3, "concurrency": 1} | settings
        made.append(OpenAIEmbedder("m", base_url=server.base_url, **settings))
        return made[-1]

    yield make
    for embedder in made:
        embedder.close()


def test_a_text_that_the_provider_refuses(run, remote, server):
    def rule(body):
        for place, text in enumerate(body["input"]):
            if "long" in text:
                return Refuse(400, {"message": f"maximum context length, input[{place}]"})

    server.rule = rule
    texts = ["one", "a long one", "three", "four", "five"]
    job = run(remote())
    assert (job(texts).embedded, job.job.outcome.failed) == (4, 1)
    assert "maximum context length" in job.failures()[0]["reason"]
    assert (
        np.stack(list(job.vectors().values()))
        == server_vectors_of([text for text in texts if "long" not in text])
    ).all()


def test_a_provider_that_says_401(run, remote, server):
    server.rule = lambda body: Refuse(401, {"message": "Incorrect API key"})
    with pytest.raises(JobError, match=r"AuthenticationError: .*Incorrect API key"):
        run(remote())([str(number) for number in range(200)])
    assert len(server.bodies) <= 4


def test_a_revoked_key_in_the_middle(run, remote, server):
    server.rule = lambda body: Refuse(401, {"message": "revoked"})
    job = run(remote(), at_once=1)
    server.script = [None, None]
    with pytest.raises(JobError, match="revoked"):
        job([str(number) for number in range(40)])
    assert len(list(job.store.keys())) == 8


def test_a_provider_that_fails_for_a_while(run, remote, server):
    server.script = [Refuse(500), Refuse(429), None, Refuse(503)]
    job = run(remote(attempts=5))
    assert job([str(number) for number in range(20)]).embedded == 20


def test_an_outage_stops_the_job(run, remote, server):
    job = run(remote(), at_once=1)
    job(["1", "2", "3", "4"])
    server.rule = lambda body: Refuse(500)
    with pytest.raises(JobError, match="InternalServerError"):
        job([str(number) for number in range(200)])
    assert len(server.bodies) < 20


def test_one_request_that_fails_for_good_is_told_of_and_the_job_goes_on(run, remote, server):
    server.rule = lambda body: Refuse(500) if "9" in body["input"] else None
    job = run(remote(), at_once=1)
    assert job([str(number) for number in range(20)]).failed == 4
    assert all("InternalServerError" in line["reason"] for line in job.failures())
    assert len(list(job.store.keys())) == 16


@pytest.mark.parametrize(
    "answer",
    [
        Say(b"nonsense"),
        Change(lambda answer: answer["data"].pop() and None),
        Change(lambda answer: answer["data"][0].update(embedding=[float("nan")] * 16)),
        Change(lambda answer: answer["data"][0].update(index=7)),
    ],
    ids=["no JSON", "too few", "NaN", "a wrong index"],
)
def test_a_wrong_answer_fails_its_batch_and_is_not_stored(run, remote, server, answer):
    job = run(remote(), at_once=1)
    server.rule = lambda body: answer if body["input"][0] == "4" else None
    assert job([str(number) for number in range(20)]).failed == 4
    assert [line["id"] for line in job.failures()] == ["id5", "id6", "id7", "id8"]
    assert len(list(job.store.keys())) == 16


def test_vectors_in_the_wrong_order_are_put_right(run, remote, server):
    server.rule = lambda body: Change(lambda answer: answer["data"].reverse())
    texts = [str(number) for number in range(20)]
    job = run(remote())
    job(texts)
    assert (np.stack(list(job.vectors().values())) == server_vectors_of(texts)).all()


def test_money(run, remote, server):
    job = run(remote(), price=0.5)
    outcome = job(["one two", "three", "one two"])
    assert outcome.spent == 3 * 0.5, "the provider counted three words"
    again = job(["one two", "three", "four four"])
    assert again.saved == pytest.approx(job.planned.tokens_per_byte * 12 * 0.5)
