"""The embedder against a server that is busy or breaks off."""

import time

import numpy as np
import openai
import pytest

from askonce.providers import OpenAIEmbedder
from tests.providers.fault_server import Break, Hang, Refuse, Together, vector_of, vectors_of
from tests.providers.refusing import texts_of


class TestTrying:
    @pytest.mark.parametrize("status", [401, 403, 404])
    def test_what_cannot_get_better_is_not_tried_again(self, make, ask, server, status):
        server.rule = lambda body: Refuse(status)
        with pytest.raises(openai.APIStatusError) as caught:
            ask(make(), ["a"])
        assert caught.value.status_code == status
        assert len(server.bodies) == 1

    def test_after_a_refused_key_nothing_more_is_asked(self, make, ask, server):
        server.script = [None, Refuse(401)]
        server.rule = lambda body: Refuse(401)
        outcomes = ask(make(max_inputs=1, concurrency=1), texts_of(20), each=True)
        np.testing.assert_array_equal(outcomes[0], vector_of("text 0"))
        assert all(isinstance(error, openai.AuthenticationError) for error in outcomes[1:])
        assert len(server.bodies) == 2

    @pytest.mark.parametrize(
        "fault",
        [Refuse(429), Refuse(500), Refuse(502), Refuse(503), Refuse(529), Refuse(408), Break],
        ids=str,
    )
    def test_what_may_get_better_is_tried_again(self, make, ask, server, fault):
        server.script = [fault, fault, fault]
        np.testing.assert_array_equal(ask(make(), ["a"]), vectors_of(["a"]))
        assert len(server.bodies) == 4

    def test_a_provider_that_hangs_is_asked_again(self, make, ask, server):
        server.script = [Hang]
        np.testing.assert_array_equal(ask(make(timeout=0.3), ["a"]), vectors_of(["a"]))
        assert len(server.bodies) >= 2  # a busy machine may hang, too

    def test_attempts_are_bounded(self, make, ask, server):
        server.rule = lambda body: Refuse(500)
        with pytest.raises(openai.InternalServerError):
            ask(make(attempts=3), ["a"])
        assert len(server.bodies) == 3

    def test_nobody_there(self, ask):
        embedder = OpenAIEmbedder("m", base_url="http://127.0.0.1:9", attempts=2, backoff=0.001)
        with pytest.raises(openai.APIConnectionError):
            ask(embedder, ["a"])
        embedder.close()

    def test_no_money_is_not_tried_again(self, make, ask, server):
        server.rule = lambda body: Refuse(429, {"message": "quota", "code": "insufficient_quota"})
        with pytest.raises(openai.RateLimitError):
            ask(make(), ["a"])
        assert len(server.bodies) == 1

    def test_retry_after_is_waited_for(self, make, ask, server):
        server.script = [
            Refuse(429, headers={"Retry-After": "0.01"}),
            Refuse(503, headers={"retry-after-ms": "5"}),
        ]
        embedder = make(backoff=1000.0, max_wait=1000.0)
        assert len(ask(embedder, ["a"])) == 1
        assert len(server.bodies) == 3

    def test_retry_after_decides_the_wait_and_holds_back_others(self, make, server):
        """The waits are recorded in place of being slept."""
        from askonce.providers.asking import Asking, Request

        class Bell:
            def __init__(self):
                self.waits = []

            def wait(self, seconds):
                self.waits.append(seconds)

            def set(self):
                pass

        server.script = [Refuse(429, headers={"Retry-After": "30"})]
        embedder, bell = make(), Bell()
        asking = Asking(["a"], [1], all_or_nothing=True, bell=bell)
        request = Request([0], "base64")
        rows = embedder._sender.send(request, asking, bell, embedder._client)
        np.testing.assert_array_equal(rows, vectors_of(["a"]))
        before, asked, again = bell.waits
        assert before == 0
        assert asked == 30
        assert 0 < again <= 30  # nothing was slept: the place after the pause is still to come
        assert 0 < embedder._sender.pace.reserve(now=time.monotonic()) <= 30

    def test_a_longer_wait_than_allowed_is_not_waited_for(self, make, ask, server):
        server.rule = lambda body: Refuse(429, headers={"Retry-After": "3600"})
        with pytest.raises(openai.RateLimitError):
            ask(make(), ["a"])
        assert len(server.bodies) == 1

    def test_only_one_layer_tries_again(self, server, ask):
        """A client of one's own, with retries of its own, is asked once an attempt."""
        server.rule = lambda body: Refuse(500)
        with openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=5) as client:
            embedder = OpenAIEmbedder("m", client=client, attempts=2, backoff=0.001)
            with pytest.raises(openai.InternalServerError):
                ask(embedder, ["a"])
        assert len(server.bodies) == 2

    def test_a_failed_batch_leaves_the_others(self, make, ask, server):
        server.rule = lambda body: Refuse(500) if "text 3" in body["input"] else None
        outcomes = ask(make(max_inputs=2), texts_of(10), each=True)
        for index, outcome in enumerate(outcomes):
            if index in {2, 3}:
                assert isinstance(outcome, openai.InternalServerError)
            else:
                np.testing.assert_array_equal(outcome, vector_of(f"text {index}"))

    def test_an_error_of_one_batch_ends_the_waits_of_the_others(self, make, ask, server):
        # The first refusal alone would hold the second request back.
        slow_down = Together(2, Refuse(429, headers={"Retry-After": "200"}))
        server.script = [slow_down, Refuse(401)]
        with pytest.raises(openai.APIStatusError):
            ask(make(max_inputs=1, concurrency=2, max_wait=300.0), ["a", "b"])
        assert len(server.bodies) == 2
