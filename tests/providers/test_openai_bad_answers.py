"""Answers that are none."""

import pytest

from askonce import AnswerError
from tests.providers.fault_server import DIMENSIONS, Change, Say


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
