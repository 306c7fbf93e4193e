"""keys create, list and revoke."""

import json
import re
import time

import pytest

from askonce import open_store
from askonce.gateway.api_keys import PREFIX, KeyRing
from tests.cli.helpers import in_process

STORE = ["--store", "sqlite:///keys.db"]
DAY = 86400


def find(secret, now=None):
    with open_store("sqlite:///keys.db") as store:
        return KeyRing(store).find(secret, now=time.time() if now is None else now)


def listed(askonce):
    return json.loads(askonce("keys", "list", "--json", *STORE).out)


def test_create_prints_the_secret_alone(askonce):
    result = askonce("keys", "create", "laptop", *STORE)
    assert result.code == 0
    assert re.fullmatch(r"ask-[a-z0-9]{8}-[\w-]{43}\n", result.out)
    secret = result.out.strip()
    key = find(secret)
    assert key.name == "laptop"
    assert key.refusal(time.time()) is None
    assert key.id in result.err and "not shown again" in result.err
    assert secret[13:] not in result.err


def test_create_with_limits(askonce):
    before = time.time()
    result = askonce(
        *("keys", "create", "laptop", *STORE, "--namespace", "team", "--model", "gpt-5*"),
        *("--model", "o1", "--requests-per-minute", "60", "--budget-per-day", "2.5"),
        *("--expires", "30d"),
    )
    key = find(result.out.strip())
    assert (key.namespace, key.models) == ("team", ("gpt-5*", "o1"))
    assert (key.requests_per_minute, key.budget_per_day) == (60, 2.5)
    assert before + 30 * DAY - 1 <= key.expires <= time.time() + 30 * DAY
    (row,) = listed(askonce)
    assert row == {
        "id": key.id,
        "name": "laptop",
        "namespace": "team",
        "models": ["gpt-5*", "o1"],
        "requests_per_minute": 60,
        "budget_per_day": 2.5,
        "created": key.created,
        "expires": key.expires,
        "revoked": None,
        "state": "valid",
    }


def test_a_key_is_good_through_its_last_day(askonce):
    key = find(askonce("keys", "create", "a", *STORE, "--expires", "2999-12-31").out.strip())
    assert key.expires == 32503680000  # 3000-01-01 00:00 UTC
    assert "2999-12-31" in askonce("keys", "list", *STORE).out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--expires", "soon"], "2026-12-31"),
        (["--expires", "2026-02-30"], "2026-12-31"),
        (["--expires", "9999-12-31"], "2026-12-31"),
        (["--expires", "999999999w"], "2026-12-31"),
        (["--expires", "-1d"], "2026-12-31"),
        (["--expires", "2020-01-01"], "still to come"),
        (["--expires", "0d"], "still to come"),
        (["--requests-per-minute", "0"], "whole number above 0"),
        (["--requests-per-minute", "many"], "not a valid integer"),
        (["--budget-per-day", "nan"], "above 0"),
        (["--budget-per-day", "inf"], "above 0"),
        (["--namespace", ""], "namespace is ''"),
        (["--model", ""], "a pattern of models is ''"),
    ],
)
def test_what_cannot_be_meant(askonce, arguments, message):
    result = askonce("keys", "create", "laptop", *STORE, *arguments)
    assert result.code == 1
    assert message in result.error
    assert result.out == ""


def test_list_shows_states_and_no_secret(askonce):
    secrets = {
        name: askonce("keys", "create", name, *STORE, *more).out.strip()
        for name, more in {
            "good": ["--model", "gpt-5*", "--requests-per-minute", "7", "--budget-per-day", "1"],
            "gone": [],
            "old": [],
        }.items()
    }
    askonce("keys", "revoke", "gone", *STORE)
    with open_store("sqlite:///keys.db") as store:
        ring = KeyRing(store)
        ring.create("past", expires=2.0, now=1.0)
    result = askonce("keys", "list", *STORE)
    assert (result.code, result.err) == (0, "")
    lines = {line.split()[1]: line for line in result.out.splitlines()}
    assert lines["good"].split()[2:] == [
        *("valid", f"key-{secrets['good'][4:12]}", "gpt-5*", "7", "$1.00"),
        *(time.strftime("%Y-%m-%d", time.gmtime()), "never"),
    ]
    assert lines["gone"].split()[2] == "revoked"
    assert lines["past"].split()[2] == "expired"
    everything = result.out + json.dumps(listed(askonce))
    assert not any(secret[13:] in everything for secret in secrets.values())
    assert {row["name"]: row["state"] for row in listed(askonce)} == {
        "good": "valid",
        "gone": "revoked",
        "old": "valid",
        "past": "expired",
    }
    assert [row["expires"] for row in listed(askonce)] == [2.0, None, None, None]


def test_an_empty_list(askonce):
    with open_store("sqlite:///keys.db"):
        pass
    assert askonce("keys", "list", *STORE).out == "There are no keys.\n"
    assert listed(askonce) == []


def test_list_tells_what_it_cannot_read(askonce):
    askonce("keys", "create", "laptop", *STORE)
    with open_store("sqlite:///keys.db") as store:
        store.write({f"{PREFIX}zzzzzzzz": b"damaged"})
    result = askonce("keys", "list", *STORE)
    assert result.code == 0
    assert "laptop" in result.out
    assert result.err.startswith("zzzzzzzz: its record is damaged")


def test_revoke(askonce):
    secret = askonce("keys", "create", "laptop", *STORE).out.strip()
    number = secret[4:12]
    result = askonce("keys", "revoke", number, *STORE)
    assert (result.code, result.out) == (0, f"The key {number}, 'laptop', is revoked.\n")
    assert find(secret).refusal(time.time()) == "revoked"
    assert askonce("keys", "revoke", "nobody", *STORE).error.startswith(
        "askonce: there is no key 'nobody'"
    )


def test_looking_makes_no_store(askonce, tmp_path):
    assert "there is no store" in askonce("keys", "list", *STORE).error
    assert "there is no store" in askonce("keys", "revoke", "a", *STORE).error
    assert list(tmp_path.iterdir()) == []


def test_the_store_comes_from_the_environment_or_is_the_users(askonce, tmp_path, monkeypatch):
    monkeypatch.setattr("platformdirs.user_data_path", lambda *_, **__: tmp_path / "data")
    askonce("keys", "create", "mine")
    assert (tmp_path / "data" / "keys.db").exists()
    monkeypatch.setenv("ASKONCE_KEYS", STORE[1])
    askonce("keys", "create", "teams")
    assert [row["name"] for row in listed(askonce)] == ["teams"]
    assert "teams" in askonce("keys", "list").out


def test_a_password_in_the_url_is_not_shown(askonce):
    result = askonce("keys", "list", "--store", "rediss://user:hunter2@127.0.0.1:1/0?x=1")
    assert result.code == 1
    assert "hunter2" not in result.error


def test_keys_alone_is_help(askonce):
    result = askonce("keys")
    assert result.code == 0
    assert "create" in result.out and "revoke" in result.out


def test_the_secret_can_be_piped(tmp_path):
    result = in_process(
        "import sys",
        "from askonce.cli import main",
        "sys.exit(main(['keys', 'create', 'laptop', '--store', 'sqlite:///keys.db']))",
        cwd=tmp_path,
    )
    assert result.code == 0
    assert len(result.out.strip()) == 56
