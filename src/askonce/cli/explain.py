"""The command that tells what the cache makes of a request."""

import json
import sys
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from askonce.cli.places import open_existing, size
from askonce.core import entry, flow
from askonce.core.store import Store
from askonce.errors import InputError
from askonce.explain import Explanation, difference
from askonce.http.exchange import Rules
from askonce.http.explaining import explain as explain_request
from askonce.http.explaining import read_request


@click.command()
@click.argument("request", type=click.Path(exists=True, dir_okay=False))
@click.argument("other", type=click.Path(exists=True, dir_okay=False), required=False)
@click.option("--store", "url", metavar="URL", help="Tell whether this store has the answer.")
def explain(request: str, other: str | None, url: str | None) -> None:
    """Tell what identifies the request in the file REQUEST, and what of it is ignored.

    With another file, OTHER, tell in which fields the two differ. A request is JSON with the
    fields method, url, headers and body, or a cassette. Credentials are neither needed nor shown.
    """
    explanation = _explained(Path(request))
    # A pipe is no 80 columns wide.
    width = None if sys.stdout.isatty() else 1000
    console = Console(width=width, markup=False, emoji=False, highlight=False)
    _show(explanation, console)
    if other is not None:
        _compare(explanation, _explained(Path(other)), console)
    if url is not None and explanation.keys:
        with open_existing(url) as store:
            console.print()
            console.print(_entries(store, explanation.keys, now=flow.now()))


def _explained(path: Path) -> Explanation:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}") from None
    request = found.get("request", found) if isinstance(found, dict) else found
    if not isinstance(request, dict):
        raise InputError(f"{path} holds no JSON object; give method, url, headers and body")
    try:
        return explain_request(*read_request(request), Rules())
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _show(explanation: Explanation, console: Console) -> None:
    if explanation.refusal:
        console.print(f"Not cached: {explanation.refusal}")
    if not explanation.keys:
        return
    for key in explanation.keys:
        console.print(f"Key  {key}", soft_wrap=True)
    console.print("\nIdentified by")
    console.print(json.dumps(explanation.identity, indent=2, ensure_ascii=False), soft_wrap=True)
    if explanation.ignored:
        console.print()
        console.print(_table(("ignored", "because"), explanation.ignored.items()))


def _compare(first: Explanation, second: Explanation, console: Console) -> None:
    console.print()
    if second.refusal:
        console.print(f"The other is not cached: {second.refusal}")
    if not first.keys or not second.keys:
        return
    if first.keys == second.keys:
        console.print("Both have the same key.")
        return
    rows = [(one.path, *one.shown()) for one in difference(first, second)]
    console.print(_table(("they differ in", "first", "other"), rows))


def _entries(store: Store, keys: Iterable[str], *, now: float) -> Table:
    wanted = list(dict.fromkeys(keys))
    rows: list[tuple[str, ...]] = []
    for key, blob in zip(wanted, store.read(wanted), strict=True):
        short = f"…{key[-12:]}"
        found = entry.unpack(blob) if blob is not None else None
        if blob is None:
            rows.append((short, "not there", "", "", "", ""))
        elif found is None:
            rows.append((short, "damaged", "", "", "", size(len(blob))))
        else:
            expired = found.expires <= now
            rows.append(
                (
                    short,
                    "expired" if expired else "there",
                    _duration(now - found.created),
                    "never" if found.expires == entry.NEVER else _duration(found.expires - now),
                    ", ".join(sorted(_tags_of(found.meta))),
                    size(len(blob)),
                )
            )
    return _table(("entry", "is", "age", "expires in", "tags", "size"), rows)


def _tags_of(meta: Mapping[str, Any]) -> list[str]:
    tags = meta.get("tags", {})
    return [str(tag) for tag in tags] if isinstance(tags, dict) else []


def _duration(seconds: float) -> str:
    try:
        return str(timedelta(seconds=int(seconds)))
    except OverflowError:
        return "?"


def _table(names: Iterable[str], rows: Iterable[tuple[str, ...]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in names:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(one if one.isprintable() else ascii(one)[1:-1] for one in row))
    return table
