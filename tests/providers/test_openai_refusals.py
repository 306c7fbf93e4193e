"""Texts that the server refuses, alone or in a batch."""

import numpy as np
import openai
import pytest

from askonce import InputTypeError
from askonce.providers import InputRefusedError, InputTooLongError
from tests.providers.fault_server import Refuse, vector_of, vectors_of
from tests.providers.refusing import long_ones, texts_of


class TestRefusedTexts:
    def test_the_one_that_is_too_long_is_found(self, make, ask, server):
        server.rule = long_ones
        texts = texts_of(40)
        texts[23] = "x" * 51
        with pytest.raises(InputTooLongError) as caught:
            ask(make(), texts)
        assert caught.value.index == 23
        assert "maximum context length" in str(caught.value)
        assert isinstance(caught.value.__cause__, openai.BadRequestError)

    def test_the_others_have_their_vectors(self, make, ask, server):
        server.rule = long_ones
        texts = texts_of(40)
        texts[7] = texts[23] = "x" * 51
        outcomes = ask(make(), texts, each=True)
        for index, outcome in enumerate(outcomes):
            if index in {7, 23}:
                assert isinstance(outcome, InputTooLongError)
                assert outcome.index == index
            else:
                np.testing.assert_array_equal(outcome, vector_of(texts[index]))

    def test_a_text_is_asked_for_alone_at_most_once(self, make, ask, server):
        server.rule = long_ones
        ask(make(), [*texts_of(20), "x" * 51], each=True)
        assert server.inputs.count(["x" * 51]) == 1

    def test_no_searching_if_the_provider_says_which(self, make, ask, server):
        def say_which(body):
            for place, text in enumerate(body["input"]):
                if len(text) > 50:
                    message = f"Invalid 'input[{place}]': maximum input length is 8192 tokens."
                    return Refuse(400, {"message": message})
            return None

        server.rule = say_which
        texts = texts_of(40)
        texts[23] = "x" * 51
        outcomes = ask(make(), texts, each=True)
        assert [i for i, outcome in enumerate(outcomes) if isinstance(outcome, Exception)] == [23]
        assert sorted(map(len, server.inputs)) == [1, 39, 40]

    def test_llama_cpp_says_500(self, make, ask, server):
        server.rule = lambda body: (
            Refuse(500, {"message": "input (801 tokens) is too large to process. increase the"})
            if any(len(text) > 50 for text in body["input"])
            else None
        )
        outcomes = ask(make(), ["a", "x" * 51], each=True)
        np.testing.assert_array_equal(outcomes[0], vector_of("a"))
        assert isinstance(outcomes[1], InputTooLongError)
        assert len(server.bodies) == 3

    def test_a_request_with_too_many_tokens_in_all_is_halved(self, make, ask, server):
        server.rule = lambda body: (
            Refuse(400, {"message": "Too many tokens in batch. Max is 16384 got 17555"})
            if len(body["input"]) > 3
            else None
        )
        np.testing.assert_array_equal(ask(make(), texts_of(10)), vectors_of(texts_of(10)))

    def test_a_server_that_takes_fewer_inputs_is_remembered(self, make, ask, server):
        server.rule = lambda body: (
            Refuse(
                422,
                {
                    "error": "batch size 64 > maximum allowed batch size 32",
                    "type": "Validation",
                },
                wrapped=False,
            )
            if len(body["input"]) > 32
            else None
        )
        embedder = make()
        for _ in range(2):
            np.testing.assert_array_equal(ask(embedder, texts_of(64)), vectors_of(texts_of(64)))
        assert [len(inputs) for inputs in server.inputs] == [64, 32, 32, 32, 32]

    def test_an_empty_text_is_named(self, make, ask, server):
        server.rule = lambda body: (
            Refuse(400, {"message": "'$.input' is invalid."}) if "" in body["input"] else None
        )
        outcomes = ask(make(), ["a", "", "b"], each=True)
        assert type(outcomes[1]) is InputRefusedError
        assert outcomes[1].index == 1
        np.testing.assert_array_equal(outcomes[2], vector_of("b"))

    def test_a_request_that_is_refused_whatever_it_holds_is_not_searched_to_the_end(
        self, make, ask, server
    ):
        server.rule = lambda body: Refuse(400, {"message": "'input' is not for this model"})
        outcomes = ask(make(), texts_of(64), each=True)
        assert all(isinstance(outcome, openai.BadRequestError) for outcome in outcomes)
        assert len(server.bodies) < 15

    def test_half_a_surrogate_is_named_and_never_sent(self, make, ask, server):
        texts = ["a", "\ud800", "b"]
        outcomes = ask(make(), texts, each=True)
        assert isinstance(outcomes[1], InputRefusedError)
        np.testing.assert_array_equal(outcomes[2], vector_of("b"))
        assert server.inputs == [["a", "b"]]
        with pytest.raises(InputRefusedError, match="index 1"):
            ask(make(), texts)
        assert len(server.bodies) == 1  # nothing is paid for a call that must fail

    @pytest.mark.parametrize("texts", ["text", [1], [None], ["a", b"b"]])
    def test_not_strings(self, make, ask, texts):
        with pytest.raises(InputTypeError):
            ask(make(), texts)
