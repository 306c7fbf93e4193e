"""Reports: cassettes that no test used."""

import subprocess
import sys

import pytest

from tests.testing.plugin.suites import ONE, TWO, run

pytest_plugins = ["pytester"]


def test_unused_cassettes_are_told_and_deleted_if_asked_for(suite):
    run(suite, "--askonce=auto", code=TWO, passed=2)
    result = run(suite, code=ONE, passed=1)
    result.stdout.fnmatch_lines(["1 unused cassette (*", "  cassettes/test_it/two-*.json"])
    assert len(suite.files) == 2
    result = run(suite, "--askonce-prune", passed=1)
    result.stdout.fnmatch_lines(["deleted 1 unused cassette:"])
    assert [file.name.split("-")[0] for file in suite.files] == ["one"]
    assert "unused cassette" not in run(suite, passed=1).stdout.str()


@pytest.mark.parametrize(
    ("options", "outcomes"),
    [
        (["-k", "one"], {"passed": 1, "deselected": 1}),
        (["test_it.py::test_one"], {"passed": 1}),
        (["--deselect", "test_it.py::test_two"], {"passed": 1, "deselected": 1}),
    ],
)
def test_a_part_of_the_tests_makes_nothing_unused(suite, options, outcomes):
    run(suite, "--askonce=auto", code=TWO, passed=2)
    result = run(suite, "--askonce-prune", *options, **outcomes)
    assert "unused cassette" not in result.stdout.str()
    assert len(suite.files) == 2


@pytest.mark.parametrize("body", ["assert False", "pytest.skip('later')"])
def test_a_test_that_did_not_get_there_makes_nothing_unused(suite, body):
    run(suite, "--askonce=auto", code=TWO, passed=2)
    code = ONE + f"\n    def test_two(askonce_client):\n        {body}\n"
    outcomes = {"failed": 1} if "False" in body else {"skipped": 1}
    result = run(suite, "--askonce-prune", code=code, passed=1, **outcomes)
    assert "unused cassette" not in result.stdout.str()


def test_modules_do_not_count_each_others_tests(suite, pytester):
    other = TWO.replace(" 1", " 3").replace(" 2", " 4")
    suite.write(TWO)
    suite.write(other, name="test_other")
    run(suite, "--askonce=auto", passed=4)
    suite.write(other.partition("    def test_two")[0], name="test_other")
    result = run(suite, passed=3)
    result.stdout.fnmatch_lines(["1 unused*", "  cassettes/test_other/two-*"])


def test_workers_of_xdist_do_not_fight(suite, server, pytester, monkeypatch):
    # Without what else is installed the workers are there sooner.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    options = ("-p", "xdist", "-p", "askonce", "-p", "no:cacheprovider", "-n2")
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    code = """
        @pytest.mark.parametrize("number", range(12))
        def test_many(askonce_client, number):
            assert said(ask(askonce_client, f"question {number % 3}"))
    """
    suite.write(code)
    result = pytester.runpytest_subprocess(*options, "--askonce=auto")
    result.assert_outcomes(passed=12)
    assert len(suite.files) == 3
    asked = len(server.asked)
    assert 3 <= asked <= 6
    suite.write(code.replace("% 3", "% 2"))
    result = pytester.runpytest_subprocess(*options, "--askonce-prune")
    result.assert_outcomes(passed=12)
    result.stdout.fnmatch_lines(["0 recorded, 12 replayed", "deleted 1 unused cassette:"])
    assert len(suite.files) == 2
    assert len(server.asked) == asked


def test_nothing_is_told_where_nothing_was_done(suite):
    result = run(suite, code="    def test_plain(): pass\n", passed=1)
    assert "askonce" not in result.stdout.str().partition("test session starts")[2].split("\n", 9)[-1]


def test_the_plugin_needs_no_hypothesis():
    code = """
import sys
sys.modules["hypothesis"] = None
import askonce.testing.plugin
from askonce import MissingExtraError
try:
    from askonce.testing import StoreTests
except MissingExtraError as error:
    assert "pip install 'askonce[testing]'" in str(error)
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
