"""The family of commands that keep a store in shape: prune, vacuum, verify."""

import json
from pathlib import Path

import click

from askonce import upkeep
from askonce.cli.bar import counter, progress
from askonce.cli.places import open_existing, size
from askonce.core.keys import namespace_prefix
from askonce.errors import InputError
from askonce.stores import parse_size

DAMAGED = 2
_SHOWN = 20
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@click.command()
@click.argument("url")
@click.option(
    "--older-than",
    metavar="AGE",
    help="Delete also what is older than this: 12h, 30d, 8w.",
)
@click.option("--namespace", help="Look at this namespace only; '' is the default one.")
@click.option(
    "--max-bytes",
    metavar="SIZE",
    help="Then give up the least recently used, of all namespaces, until the store takes at most "
    "this: 500MB, 2GiB. From then on it notes what is used when.",
)
def prune(url: str, older_than: str | None, namespace: str | None, max_bytes: str | None) -> None:
    """Delete what has expired from the store URL.

    Values that are no entries of askonce's have no age and are left alone, except by --max-bytes.
    """
    age = None if older_than is None else _seconds(older_than)
    with open_existing(url if max_bytes is None else _limited(url, max_bytes)) as store:
        prefix = "" if namespace is None else namespace_prefix(namespace)
        with progress("pruning", counter(store, prefix)) as advance:
            count = upkeep.prune(store, older_than=age, namespace=namespace, progress=advance)
        count += 0 if max_bytes is None else store.evict()
        click.echo(f"Deleted {count} entries; the store takes {size(store.size())}.")


@click.command()
@click.argument("url")
def vacuum(url: str) -> None:
    """Give back the space of what was deleted from the store URL.

    SQLite and LMDB write their file anew, which needs as much free space again for a moment. An
    LMDB store must not be open anywhere else. Of a folder of files, empty folders and what killed
    writers left behind are removed.
    """
    with open_existing(url) as store:
        before = store.size()
        store.vacuum()
        after = store.size()
    click.echo(f"Gave back {size(max(0, before - after))}; the store takes {size(after)}.")


@click.command()
@click.argument("url")
@click.option("--repair", is_flag=True, help="Delete what is damaged; it will be asked for again.")
@click.option(
    "--report",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A file to write each damaged entry's key and reason to, as a line of JSON.",
)
def verify(url: str, report: Path | None, *, repair: bool) -> int:
    """Read every entry of the store URL and check it against its checksum.

    Caches treat damaged entries as missing anyway. Foreign values, like the JSON that LangChain
    writes, are counted and never touched.

    Exit code: 0 if nothing damaged is left, 2 if something is, 1 if it could not be done.
    """
    with open_existing(url) as store, progress("verifying", counter(store, "")) as advance:
        found = upkeep.verify(store, repair=repair, progress=advance)
    _show(found.damaged)
    if report is not None:
        with report.open("w", encoding="utf-8") as file:
            file.writelines(_line(damage) for damage in found.damaged)
    deleted = sum(damage.deleted for damage in found.damaged)
    click.echo(
        f"whole {found.whole}, foreign {found.foreign}, damaged {len(found.damaged)}"
        + (f", of which {deleted} were deleted" if found.damaged and repair else "")
    )
    return 0 if found.is_sound else DAMAGED


def _show(damaged: list[upkeep.Damage]) -> None:
    for damage in damaged[:_SHOWN]:
        key = damage.key if damage.key.isprintable() else ascii(damage.key)[1:-1]
        click.echo(f"{key}: {damage.reason}", err=True)
    if len(damaged) > _SHOWN:
        click.echo(
            f"and {len(damaged) - _SHOWN} more; --report FILE writes all of them to a file",
            err=True,
        )


def _line(damage: upkeep.Damage) -> str:
    line = {"key": damage.key, "reason": damage.reason, "deleted": damage.deleted}
    return json.dumps(line) + "\n"


def _seconds(age: str) -> float:
    """Read a duration like 30d. Raises InputError."""
    try:
        seconds = float(age[:-1]) * _UNITS[age[-1:]]
    except (ValueError, KeyError):
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise InputError(f"{age!r} is not an age; write for example 12h, 30d or 8w")
    return seconds


def _limited(url: str, max_bytes: str) -> str:
    """Add the limit to a store's URL; of two the last one counts."""
    limit = parse_size(max_bytes)
    return f"{url}{'&' if '?' in url else '?'}max_bytes={limit}"
