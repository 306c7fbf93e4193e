"""The embedder against a server that behaves."""

import numpy as np
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from askonce.providers import InputTooLongError
from tests.providers.fault_server import Change, Refuse, vector_of, vectors_of
from tests.providers.refusing import long_ones, texts_of


class TestGoodAnswers:
    def test_one_array_in_order(self, make, ask):
        rows = ask(make(), texts_of(5))
        assert rows.dtype == np.float32
        np.testing.assert_array_equal(rows, vectors_of(texts_of(5)))

    def test_nothing_asked_for_nothing(self, make, ask, server):
        assert ask(make(dimensions=3), []).shape == (0, 3)
        assert ask(make(), [], each=True) == []
        assert server.bodies == []

    def test_asks_for_base64_and_sends_what_was_set(self, make, ask, server):
        ask(make(dimensions=4, extra_body={"input_type": "document"}), ["a"])
        assert server.bodies == [
            {
                "model": "m",
                "input": ["a"],
                "dimensions": 4,
                "encoding_format": "base64",
                "input_type": "document",
            }
        ]
        assert server.paths == ["/v1/embeddings"]

    def test_floats_equal_base64_to_the_last_bit(self, make, ask, server):
        packed = ask(make(), texts_of(3))
        server.rule = lambda body: (
            Refuse(400, {"message": "unsupported encoding_format"})
            if (body.get("encoding_format") == "base64")
            else None
        )
        np.testing.assert_array_equal(ask(make(), texts_of(3)), packed)

    def test_cuts_batches_by_inputs_and_tokens(self, make, ask, server):
        rows = ask(make(max_inputs=4), texts_of(10))
        np.testing.assert_array_equal(rows, vectors_of(texts_of(10)))
        assert sorted(map(len, server.inputs)) == [2, 4, 4]
        server.bodies.clear()
        ask(make(max_tokens=15), texts_of(10))
        assert max(map(len, server.inputs)) == 3
        assert sum(map(len, server.inputs)) == 10

    def test_keeps_to_its_concurrency(self, make, ask, server):
        gate = []

        def slowly(body):
            gate.append(body)

        server.rule = slowly
        ask(make(max_inputs=1, concurrency=3), texts_of(30))
        assert len(gate) == 30
        assert server.most_under_way <= 3

    def test_uses_its_concurrency(self, make, ask, server):
        """Requests that answer only when three are under way together do answer."""
        import threading

        together = threading.Barrier(3)

        def wait_for_others(answer):
            together.wait(10)

        server.rule = lambda body: Change(wait_for_others)
        assert len(ask(make(max_inputs=1, concurrency=3), texts_of(3))) == 3

    def test_counts_tokens_used(self, make, ask):
        embedder = make(max_inputs=2)
        ask(embedder, ["a b", "c", "d e f"])
        assert embedder.tokens_used == 6

    def test_any_order_of_the_answer(self, make, ask, server):
        server.script = [Change(lambda answer: answer["data"].reverse())]
        np.testing.assert_array_equal(ask(make(), texts_of(5)), vectors_of(texts_of(5)))

    def test_answers_in_floats_though_base64_was_asked(self, make, ask, server):
        def ignore(answer):
            for item in answer["data"]:
                item["embedding"] = np.frombuffer(
                    __import__("base64").b64decode(item["embedding"]), "<f4"
                ).tolist()

        server.rule = lambda body: Change(ignore)
        np.testing.assert_array_equal(ask(make(), ["a", "b"]), vectors_of(["a", "b"]))

    def test_works_from_one_event_loop_after_another(self, make, ask):
        embedder = make()
        for _ in range(2):
            assert len(ask(embedder, ["a"])) == 1

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=60), max_size=12),
        inputs=st.integers(1, 5),
        tokens=st.integers(1, 60),
    )
    def test_any_texts_give_what_asking_one_by_one_gives(self, make, server, texts, inputs, tokens):
        server.rule = long_ones
        outcomes = make(max_inputs=inputs, max_tokens=tokens).embed_each(texts)
        assert len(outcomes) == len(texts)
        for index, (text, outcome) in enumerate(zip(texts, outcomes, strict=True)):
            if len(text) > 50:
                assert isinstance(outcome, InputTooLongError)
                assert outcome.index == index
            else:
                np.testing.assert_array_equal(outcome, vector_of(text))


class TestFormats:
    def test_a_server_without_base64_is_asked_for_floats_from_then_on(self, make, ask, server):
        server.script = [Refuse(422, {"message": "encoding_format must be float"})]
        embedder = make()
        np.testing.assert_array_equal(ask(embedder, ["a"]), vectors_of(["a"]))
        ask(embedder, ["b"])
        assert [body["encoding_format"] for body in server.bodies] == ["base64", "float", "float"]

    def test_a_server_that_knows_no_formats(self, make, ask, server):
        server.rule = lambda body: (
            Refuse(
                422,
                {"detail": [{"loc": ["body", "encoding_format"], "msg": "not permitted"}]},
                wrapped=False,
            )
            if "encoding_format" in body
            else None
        )
        np.testing.assert_array_equal(ask(make(), ["a"]), vectors_of(["a"]))
        assert [body.get("encoding_format") for body in server.bodies] == ["base64", "float", None]

    def test_a_server_that_refuses_every_format(self, make, ask, server):
        server.rule = lambda body: Refuse(400, {"message": "encoding_format is bad"})
        with pytest.raises(openai.BadRequestError):
            ask(make(), ["a"])
        assert len(server.bodies) == 3
