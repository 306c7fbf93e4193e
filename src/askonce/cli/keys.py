"""The family of commands for the gateway's own API keys: create, list, revoke."""

import json
import math
import re
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from askonce.cli.places import open_existing
from askonce.errors import InputError
from askonce.gateway.api_keys import ApiKey, KeyRing
from askonce.gateway.places import default_keys_url
from askonce.stores import open_store, patient

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_AGE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smhdw])")

_store = click.option(
    "--store",
    "url",
    envvar="ASKONCE_KEYS",
    help="The store of keys; else that in ASKONCE_KEYS, else an SQLite file in the user's folder "
    "of data.",
)


@click.group(invoke_without_command=True)
@click.pass_context
def keys(context: click.Context) -> None:
    """Look after the keys by which the gateway knows who asks.

    They are in a store of their own, which the gateway reads: what is created comes in, and what
    is revoked stays out, within a second and without a restart.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@keys.command()
@click.argument("name")
@click.option("--namespace", help="Where its answers are kept; else one that no other key has.")
@click.option(
    "--model",
    "models",
    multiple=True,
    help="Models it is good for, like 'gpt-5*'; may be given again. Else all.",
)
@click.option("--requests-per-minute", type=int, help="The most requests in any minute.")
@click.option(
    "--budget-per-day", type=float, help="Dollars; once spent, all requests wait for 00:00 UTC."
)
@click.option("--expires", help="When it ends: 12h, 30d, 8w, or with the day 2026-12-31 (UTC).")
@_store
def create(url: str | None, name: str, expires: str | None, **limits: Any) -> None:
    """Make a key called NAME and print its secret, once.

    Standard output is the secret alone. Only a digest of it is stored.
    """
    now = time.time()
    ends = math.inf if expires is None else _end(expires, now)
    with open_store(_url(url)) as store:
        secret, key = KeyRing(store).create(name, **limits, expires=ends, now=now)
    click.echo(secret)
    click.echo(
        f"This secret is not shown again. The key is {key.id}, its namespace {key.namespace!r}.\n"
        "Give it to the client as its API key, like OPENAI_API_KEY or ANTHROPIC_API_KEY. "
        f"To take it back: askonce keys revoke {key.id}",
        err=True,
    )


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@_store
def list_(url: str | None, *, as_json: bool) -> None:
    """List the keys: valid, expired or revoked, and what they are good for.

    Secrets are not shown; nobody knows them. Times of JSON are seconds since 1970.
    """
    now = time.time()
    with open_existing(_url(url)) as store:
        ring = KeyRing(store)
        found = ring.keys()
        unreadable = ring.unreadable()
    if as_json:
        click.echo(json.dumps([_row(key, now) for key in found], indent=2))
    elif found:
        _show(found, now)
    else:
        click.echo("There are no keys.")
    for number in unreadable:
        click.echo(
            f"{number}: its record is damaged or of a newer askonce; it lets nobody in", err=True
        )


@keys.command()
@click.argument("id_or_name")
@_store
def revoke(url: str | None, id_or_name: str) -> None:
    """Let a key come in no more; its name will do if no other valid key has it."""
    with open_existing(_url(url)) as store:
        key = KeyRing(store).revoke(id_or_name, now=time.time())
    click.echo(f"The key {key.id}, {key.name!r}, is revoked.")


def _url(url: str | None) -> str:
    return patient(url or default_keys_url())


def _end(text: str, now: float) -> float:
    """Read when a key ends. Raises InputError."""
    age = _AGE.fullmatch(text)
    try:
        if age:
            seconds = float(age[1]) * _UNITS[age[2]]
            # A date must be able to hold it, but would round it, too.
            _ = datetime.fromtimestamp(now, UTC) + timedelta(seconds=seconds)
            return now + seconds
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
        return (day + timedelta(days=1)).timestamp()
    except (ValueError, OverflowError):
        raise InputError(
            f"{text!r} is no time at which a key could end; write for example 12h, 30d, 8w or "
            "2026-12-31"
        ) from None


def _row(key: ApiKey, now: float) -> dict[str, Any]:
    expires = None if key.expires == math.inf else key.expires
    return {**asdict(key), "expires": expires, "state": key.refusal(now) or "valid"}


def _show(found: list[ApiKey], now: float) -> None:
    # A pipe is no 80 columns wide.
    width = None if sys.stdout.isatty() else 1000
    console = Console(width=width, markup=False, emoji=False, highlight=False)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("id", no_wrap=True)
    table.add_column("name", overflow="fold")
    table.add_column("state", no_wrap=True)
    for name in ("namespace", "models"):
        table.add_column(name, overflow="fold")
    for name in ("a minute", "a day", "created", "expires"):
        table.add_column(name, justify="right", no_wrap=True)
    for key in found:
        count, budget = key.requests_per_minute, key.budget_per_day
        table.add_row(
            key.id,
            key.name,
            key.refusal(now) or "valid",
            key.namespace,
            " ".join(key.models) or "all",
            "-" if count is None else str(count),
            "-" if budget is None else f"${budget:.2f}",
            _day(key.created),
            _last_day(key.expires),
        )
    console.print(table)


def _last_day(expires: float) -> str:
    return "never" if expires == math.inf else _day(expires - 1)


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
