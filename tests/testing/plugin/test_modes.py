"""Modes: who may be asked, by what the command line, a marker or a setting says."""

import pytest

from tests.testing.plugin.suites import ONE, run

pytest_plugins = ["pytester"]


def test_nothing_is_asked_unless_it_is_asked_for(suite, server):
    result = run(suite, code=ONE, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*no cassette answers this request*",
            f"*POST {server.url}/chat/completions*",
            "*There are no cassettes in cassettes/test_it*",
            "*pytest --askonce=auto 'test_it.py::test_one'*",
        ]
    )
    assert server.asked == []
    assert not suite.folder.exists()


@pytest.mark.parametrize("mode", ["auto", "record"])
def test_records_once_and_replays_without_a_socket(suite, server, mode):
    result = run(suite, f"--askonce={mode}", code=ONE, passed=1)
    result.stdout.fnmatch_lines(["*1 recorded, 0 replayed*"])
    assert len(suite.files) == 1
    server.shutdown()
    result = run(suite, "--askonce-no-network", passed=1)
    result.stdout.fnmatch_lines(["*0 recorded, 1 replayed*"])
    assert len(server.asked) == 1


def test_auto_records_what_is_missing_only(suite, server):
    run(suite, "--askonce=auto", code=ONE, passed=1)
    more = ONE + '    def test_two(askonce_client): assert said(ask(askonce_client, "two"))\n'
    run(suite, "--askonce=auto", code=more, passed=2)
    assert [body["messages"][0]["content"] for body in server.asked] == ["one", "two"]


def test_record_asks_again_and_writes_over(suite, server):
    code = """
        def test_one(askonce_client):
            first = said(ask(askonce_client, "one"))
            assert said(ask(askonce_client, "one")) == first
    """
    run(suite, "--askonce=record", code=code, passed=1)
    (file,) = suite.files
    renamed = file.rename(file.with_name("renamed.json"))
    before = renamed.read_text()
    run(suite, "--askonce=record", passed=1)
    assert len(server.asked) == 2
    assert suite.files == [renamed]
    assert renamed.read_text().replace("one 2", "one 1").splitlines()[:20] == before.splitlines()[:20]


def test_off_asks_every_time_and_writes_nothing(suite, server):
    code = """
        def test_one(askonce_client):
            assert said(ask(askonce_client, "one")) != said(ask(askonce_client, "one"))
    """
    run(suite, "--askonce=off", code=code, passed=1)
    assert len(server.asked) == 2
    assert not suite.folder.exists()


def test_the_configuration_says_how(suite, server, pytester):
    ini = pytester.path / "tox.ini"
    ini.write_text(ini.read_text() + "\naskonce = auto\n")
    run(suite, code=ONE, passed=1)
    assert len(server.asked) == 1


def test_a_marker_says_how_for_its_tests(suite, server):
    marked = "    @pytest.mark.askonce(mode='auto', cassette='shared')\n" + ONE
    run(suite, code=marked, passed=1)
    assert len(list(suite.folder.with_name("shared").glob("*.json"))) == 1


def test_a_marker_wins_over_the_command_line(suite, server):
    marked = "    @pytest.mark.askonce(mode='replay')\n" + ONE
    run(suite, "--askonce=record", code=marked, failed=1)
    assert server.asked == []


def test_a_run_that_is_to_ask_nobody_asks_nobody(suite, server):
    marked = "    @pytest.mark.askonce(mode='record')\n" + ONE
    run(suite, "--askonce=replay", code=marked, failed=1)
    assert server.asked == []


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("mode='rec'", "*mode is 'rec'; there are replay, record, auto, off*"),
        ("'replay'", "*the marker askonce takes names*"),
        ("folder='x'", "*not folder*"),
        ("library='requests'", "*library is 'requests'; there are httpx2, httpx*"),
    ],
)
def test_a_marker_that_cannot_be_used(suite, marker, message):
    suite.write(f"    @pytest.mark.askonce({marker})\n" + ONE)
    result = suite.run()
    result.stderr.fnmatch_lines([message])
    assert result.ret == pytest.ExitCode.USAGE_ERROR


def test_a_setting_that_cannot_be_used(suite, pytester):
    ini = pytester.path / "tox.ini"
    ini.write_text(ini.read_text() + "\naskonce = always\n")
    suite.write(ONE)
    result = suite.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*askonce is 'always'*"])
