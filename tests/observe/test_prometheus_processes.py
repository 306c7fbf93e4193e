"""Several processes that count together."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from askonce.observe.prometheus import process_ended

COUNTING = Path(__file__).with_name("counting.py")


class Worker:
    """Be one of the processes."""

    def __init__(self, folder):
        self.process = subprocess.Popen(
            [sys.executable, str(COUNTING)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)},
            text=True,
        )

    def tell(self, line):
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def count(self, hits):
        self.tell(hits)
        assert self.process.stdout.readline() == "counted\n"

    def scrape(self):
        self.tell("scrape")
        lines = []
        while (line := self.process.stdout.readline()) != "# EOF\n":
            assert line, "the process has ended"
            lines.append(line)
        return {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in parse("".join(lines))
            for sample in family.samples
        }

    def die(self):
        self.tell("die")
        self.process.wait()

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def workers(tmp_path):
    with contextlib.ExitStack() as stack:

        def made():
            return stack.enter_context(contextlib.closing(Worker(tmp_path)))

        yield made


HITS = (
    "askonce_hits_total",
    ("model", "gpt-4o-mini"),
    ("namespace", "team"),
    ("route", "a"),
)


def test_a_scrape_of_one_tells_of_all(workers):
    one, other = workers(), workers()
    one.count(2)
    other.count(3)
    other.count(4)
    told = one.scrape()
    assert told == other.scrape()
    assert told[HITS] == 9
    outcome = (("outcome", "hit"), ("route", "a"))
    assert told["askonce_requests_total", *outcome, ("status", "200")] == 3
    assert told["askonce_request_seconds_count", *outcome] == 3
    assert told["askonce_request_seconds_bucket", ("le", "0.001"), *outcome] == 3
    assert told["askonce_request_seconds_sum", *outcome] == pytest.approx(0.003)


def test_what_a_dead_process_counted_stays(workers, tmp_path, monkeypatch):
    one, other = workers(), workers()
    one.count(2)
    one.die()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    process_ended(one.process.pid)
    other.count(3)
    assert other.scrape()[HITS] == 5
    after = workers()
    after.count(1)
    assert after.scrape()[HITS] == 6
