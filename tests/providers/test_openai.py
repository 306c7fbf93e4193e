"""The embedder against a server that behaves, and one that misbehaves on command."""

import asyncio
import time

import numpy as np
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.providers.fault_server import (
    DIMENSIONS,
    Break,
    Change,
    Hang,
    Refuse,
    Say,
    Together,
    vector_of,
    vectors_of,
)

from askonce import AnswerError, InputError, InputTypeError
from askonce.providers import InputRefusedError, InputTooLongError, OpenAIEmbedder

TOO_LONG = {
    "message": "This model's maximum context length is 8192 tokens, however you requested 9000",
    "type": "invalid_request_error",
    "param": None,
    "code": None,
}


def texts_of(count: int) -> list[str]:
    return [f"text {number}" for number in range(count)]


def long_ones(body: dict):
    """Refuse a request with a text of more than 50 characters, without saying which."""
    return Refuse(400, TOO_LONG) if any(len(text) > 50 for text in body["input"]) else None


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
        assert len(server.bodies) == 2

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
        assert 29 < again <= 30  # nothing was slept: the place after the pause is still to come
        assert 29 < embedder._sender.pace.reserve(now=time.monotonic()) <= 30

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


def _set(place, name, value):
    def change(answer):
        answer["data"][place][name] = value

    return change


class TestBadAnswers:
    @pytest.mark.parametrize(
        ("fault", "words"),
        [
            (Change(_set(1, "index", 0)), "index 0 twice"),
            (Change(_set(1, "index", 2)), "index 2"),
            (Change(_set(1, "index", -1)), "index -1"),
            (Change(_set(1, "index", None)), "None as an index"),
            (Change(_set(1, "index", True)), "True as an index"),
            (Change(lambda answer: answer["data"].__delitem__(0)), "1 vectors for 2 inputs"),
            (Change(_set(0, "embedding", [1.0, 2.0])), "different lengths"),
            (Change(_set(0, "embedding", [float("nan")] * DIMENSIONS)), "NaN"),
            (Change(_set(0, "embedding", [1e39] * DIMENSIONS)), "infinity"),
            (Change(_set(0, "embedding", [None] * DIMENSIONS)), "NaN"),
            (Change(_set(0, "embedding", [["a"]])), "unreadable"),
            (Change(_set(0, "embedding", [[1.0], [2.0]])), "shape"),
            (Change(_set(0, "embedding", [])), "shape"),
            (Change(_set(0, "embedding", "AAA")), "unreadable"),
            (Change(_set(0, "embedding", "AAAA")), "unreadable"),
            (Change(_set(0, "embedding", "????")), "unreadable"),
            (Change(lambda answer: answer.update(data=["a", "b"])), "str for a vector"),
            (Change(lambda answer: {"error": {"message": "busy"}}), "busy"),
            (Change(lambda answer: [1]), "without vectors"),
            (Say(b"<html>hello</html>"), "other than JSON"),
            (Say(b""), "other than JSON"),
        ],
    )
    def test_nothing_wrong_gets_through(self, make, ask, server, fault, words):
        server.rule = lambda body: fault
        with pytest.raises(AnswerError, match=words):
            ask(make(), ["a", "b"])
        assert len(server.bodies) == 1

    def test_dimensions_that_change(self, make, ask, server):
        embedder = make()
        ask(embedder, ["a"])
        server.rule = lambda body: Change(lambda answer: _set(0, "embedding", [1.0])(answer))
        with pytest.raises(AnswerError, match="1 dimensions, but 16 before"):
            ask(embedder, ["b"])

    def test_dimensions_that_were_not_asked_for(self, make, ask, server):
        server.rule = lambda body: body.pop("dimensions") and None
        with pytest.raises(AnswerError, match="but 4 were asked for"):
            ask(make(dimensions=4), ["a"])


class TestSettings:
    def test_no_key_goes_to_an_address_it_was_not_meant_for(self, make, server, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", "secret")
        make()(["a"])
        make(api_key="given")(["a"])
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        make(base_url=None)(["a"])
        assert [headers["authorization"] for headers in server.headers] == [
            "Bearer none",
            "Bearer given",
            "Bearer secret",
        ]

    def test_providers_are_told_apart(self, make, server):
        assert make().parameters == {"provider": f"127.0.0.1:{server.server_port}/v1"}
        assert make(provider="mine").parameters == {"provider": "mine"}
        assert make(extra_body={"a": 1}, provider="mine").parameters == {
            "provider": "mine",
            "extra_body": {"a": 1},
        }
        with OpenAIEmbedder("m", api_key="k") as embedder:
            assert embedder.parameters == {"provider": "api.openai.com/v1"}
            assert embedder.batch_size == 4096

    def test_azure(self, server, ask):
        with openai.AzureOpenAI(
            azure_endpoint=server.base_url.removesuffix("/v1"), api_key="k", api_version="v"
        ) as client:
            embedder = OpenAIEmbedder("deployed", client=client)
            np.testing.assert_array_equal(ask(embedder, ["a"]), vectors_of(["a"]))
        assert server.paths == ["/openai/deployments/deployed/embeddings?api-version=v"]

    async def test_an_async_client_of_ones_own(self, server):
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key="k") as async_client:
            with openai.OpenAI(base_url=server.base_url, api_key="k") as client:
                embedder = OpenAIEmbedder("m", client=client, async_client=async_client)
                rows = await embedder.aembed(["a"])
        np.testing.assert_array_equal(rows, vectors_of(["a"]))

    async def test_closing(self, server):
        async with OpenAIEmbedder("m", base_url=server.base_url) as embedder:
            await embedder.aembed(["a"])
        assert embedder._client.is_closed()

    async def test_cancelling(self, make, server):
        server.rule = lambda body: Hang
        embedder = make()
        task = asyncio.create_task(embedder.aembed(["a"]))
        while not server.bodies:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await embedder.aclose()

    @pytest.mark.parametrize(
        "settings",
        [
            {"model": ""},
            {"dimensions": 0},
            {"max_inputs": 0},
            {"max_tokens": -1},
            {"concurrency": 0},
            {"requests_per_minute": 0},
            {"timeout": 0},
            {"attempts": 0},
            {"async_client": object()},
            {"client": object(), "base_url": "http://x"},
        ],
        ids="-".join,
    )
    def test_settings_that_cannot_be_used(self, settings):
        with pytest.raises(InputError):
            OpenAIEmbedder(**{"model": "m"} | settings)
