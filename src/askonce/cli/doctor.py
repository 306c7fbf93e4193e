"""The command that checks a store."""

import json
from dataclasses import asdict

import click

from askonce.cli.places import open_existing
from askonce.doctor import examine, secretless

SOMETHING_WRONG = 1


@click.command()
@click.argument("url")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(url: str, *, as_json: bool) -> int:
    """Check the store URL and say what to change.

    Is it there, may it be read, written and deleted from, how long does a look-up take, do claims
    keep others waiting; and, as far as the store can tell, its version, its clock, its settings
    and the space that is left. A probe is written under a key that no cache uses, and deleted.
    Passwords are not shown.

    Exit code: 0 if nothing is wrong, though something may be doubtful, 1 if something is.
    """
    shown, findings = secretless(url, examine(lambda: open_existing(url)))
    is_well = all(one.state != "wrong" for one in findings)
    if as_json:
        report = {"url": shown, "well": is_well, "findings": [asdict(one) for one in findings]}
        click.echo(json.dumps(report, indent=2))
    else:
        width = max(len(one.check) for one in findings)
        click.echo(shown)
        for one in findings:
            click.echo(f"{one.state:<8}  {one.check:<{width}}  {one.told}")
            if one.advice:
                click.echo(f"{'':<8}  {'':<{width}}  -> {one.advice}")
    return 0 if is_well else SOMETHING_WRONG
