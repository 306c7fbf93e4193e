"""The family of commands about what a store holds: ls, stats, clear."""

import itertools
import math
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

import click
from rich.console import Console
from rich.table import Table

from askonce.cli.places import open_existing, size
from askonce.core import entry, flow
from askonce.core.keys import namespace_prefix
from askonce.core.policy import is_fresh
from askonce.core.store import Store
from askonce.errors import InputError

_AT_ONCE = 500
_DIGEST = re.compile(
    r"([0-9a-f]{128}|[0-9a-f]{64}|[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12})"
    r"(-query)?$"
)
"""How keys end: ours in 64 digits, those of LangChain's key encoders in any of these."""


@click.command()
@click.argument("url")
@click.option("--prefix", default="", help="Only keys that start with this.")
def ls(url: str, prefix: str) -> None:
    """List the keys of the store URL, one a line.

    A character that would not show is written as a backslash and its number, as in Python.
    """
    with open_existing(url) as store:
        for key in store.keys(prefix):
            click.echo(key if key.isprintable() else ascii(key)[1:-1])


@click.command()
@click.argument("url")
def stats(url: str) -> None:
    """Count the entries of the store URL by namespace, kind and model.

    Reads every entry: bytes are those of the entries themselves, oldest and newest say when the
    good ones were made, expired and damaged ones are counted apart and treated as misses by
    every cache.
    """
    with open_existing(url) as store:
        tallies = tally(store, now=flow.now())
    # A pipe is no 80 columns wide.
    width = None if sys.stdout.isatty() else 1000
    console = Console(width=width, markup=False, emoji=False, highlight=False)
    if not tallies:
        console.print("The store holds no entries.")
        return
    console.print(_table(tallies))
    if foreign := sum(found.langchain for found in tallies.values()):
        console.print(f"{foreign} entries are vectors as LangChain writes them (JSON).")


@click.command()
@click.argument("url")
@click.option("--namespace", required=True, help="The namespace; '' is the default one.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def clear(url: str, namespace: str, *, yes: bool) -> None:
    """Delete every entry of one namespace of the store URL, and of no other."""
    prefix = namespace_prefix(namespace)
    with open_existing(url) as store:
        if not yes and not _agreed(sum(1 for _ in store.keys(prefix)), namespace):
            click.echo("Nothing was deleted.")
            return
        count = store.clear(prefix)
    click.echo(f"Deleted {count} entries.")


def _agreed(count: int, namespace: str) -> bool:
    try:
        answer = input(f"Delete {count} entries of the namespace {namespace!r}? [y/N] ")
    except EOFError:
        raise InputError("there is nobody to ask; give --yes to delete without asking") from None
    return answer.strip().lower() in {"y", "yes"}


@dataclass
class Tally:
    """Count the entries of one group."""

    entries: int = 0
    size: int = 0
    oldest: float = math.inf
    newest: float = -math.inf
    expired: int = 0
    damaged: int = 0
    langchain: int = 0

    def add(self, blob: bytes, *, now: float) -> None:
        """Count one entry."""
        self.entries += 1
        self.size += len(blob)
        found = entry.unpack(blob)
        if found is not None:
            self.oldest = min(self.oldest, found.created)
            self.newest = max(self.newest, found.created)
            self.expired += not is_fresh(found.expires, now=now)
        elif blob.startswith(b"["):
            self.langchain += 1
        else:
            self.damaged += 1


def tally(store: Store, *, now: float) -> dict[str, Tally]:
    """Count a store's entries by namespace/kind/model, as their keys spell them."""
    tallies: dict[str, Tally] = {}
    for keys in batches(store.keys()):
        for key, blob in zip(keys, store.read(keys), strict=True):
            if blob is not None:
                tallies.setdefault(_group(key), Tally()).add(blob, now=now)
    return tallies


def _group(key: str) -> str:
    """Take namespace/kind/model from a key, or what LangChain put in front of its digest."""
    start = _DIGEST.sub("", key)
    return start.rstrip("/") if start != key else "(other keys)"


def batches(keys: Iterable[str]) -> Iterator[list[str]]:
    """Cut keys into lists that a store reads at once."""
    remaining = iter(keys)
    while batch := list(itertools.islice(remaining, _AT_ONCE)):
        yield batch


def _table(tallies: dict[str, Tally]) -> Table:
    # The numbers fit the narrowest terminal; the names give way.
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("namespace/kind/model", overflow="fold")
    for name in ("entries", "bytes", "oldest", "newest", "expired", "damaged"):
        table.add_column(name, justify="right", no_wrap=True)
    for group, found in sorted(tallies.items()):
        table.add_row(
            group if group.isprintable() else ascii(group)[1:-1],
            str(found.entries),
            size(found.size),
            _day(found.oldest),
            _day(found.newest),
            str(found.expired),
            str(found.damaged),
        )
    return table


def _day(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "-"
    try:
        return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d")
    except (ValueError, OverflowError, OSError):
        return "?"
