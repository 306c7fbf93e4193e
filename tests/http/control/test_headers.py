"""Headers of askonce that cannot be read."""

import pytest

from tests.http.askers import body

UNREADABLE = {
    "askonce-ttl": ["0", "-1", "soon", "nan", "inf", "", "1e999"],
    "askonce-sample": ["-1", "1.5", "x", "", "1" * 5000],
    "askonce-what": ["1"],
    "cache-control": ["max-age=soon", "max-age", "stale-if-error=-1", "max-age=nan"],
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, vs in UNREADABLE.items() for v in vs])
def test_headers_that_cannot_be_read_are_refused_and_not_retried(asker, provider, url, name, value):
    reply = asker.ask(url, body(), {name: value})
    assert reply.status == 400
    assert reply.header("x-should-retry") == "false"
    assert reply.json()["error"]["message"].startswith("askonce: ")
    assert provider.count == 0


def test_other_directives_are_passed_over(asker, provider, url):
    asker.ask(url, body(), {"Cache-Control": "no-transform, max-stale=5, , x=y"})
    assert asker.ask(url, body()).hit
