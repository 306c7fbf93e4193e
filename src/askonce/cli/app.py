"""The frame of the command line: the table of commands, and what becomes of their failures."""

import importlib
import os
import sys
from collections.abc import Mapping, Sequence

import click

import askonce
from askonce.errors import AskonceError

COMMANDS: Mapping[str, str] = {
    "clear": "askonce.cli.entries:clear",
    "copy": "askonce.cli.transfer:copy",
    "doctor": "askonce.cli.doctor:doctor",
    "embed": "askonce.cli.embed:embed",
    "explain": "askonce.cli.explain:explain",
    "export": "askonce.cli.transfer:export",
    "import": "askonce.cli.transfer:import_",
    "keys": "askonce.cli.keys:keys",
    "ls": "askonce.cli.entries:ls",
    "migrate": "askonce.cli.migrate:migrate",
    "prune": "askonce.cli.upkeep:prune",
    "serve": "askonce.cli.serve:serve",
    "stats": "askonce.cli.entries:stats",
    "vacuum": "askonce.cli.upkeep:vacuum",
    "verify": "askonce.cli.upkeep:verify",
}
"""Where each command lives; a family's module is imported when one of its commands is."""

FAILED = 1
INTERRUPTED = 130
"""128 and the number of SIGINT, as a shell counts."""


class Commands(click.Group):
    """Find commands in the table."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        target = COMMANDS.get(cmd_name)
        if target is None:
            return None
        module, _, name = target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
)
@click.version_option(askonce.__version__, prog_name="askonce")
@click.pass_context
def app(context: click.Context) -> None:
    """Look after caches of embeddings and chat answers.

    A store is named by a URL: sqlite:///cache.db, file:///folder, lmdb:///folder. Three slashes
    begin a path relative to the current folder, four an absolute one.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and tell its exit code; whatever goes wrong is one line on stderr."""
    try:
        outcome = app.main(arguments, prog_name="askonce", standalone_mode=False)
        sys.stdout.flush()
    except click.Abort:
        return _fail("interrupted", INTERRUPTED)
    except click.ClickException as error:
        return _fail(error.format_message().replace("\n", " "))
    except BrokenPipeError:
        # Whoever read our output has seen enough; there is nothing left to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (AskonceError, OSError) as error:
        return _fail(" ".join(str(error).split()))
    return outcome if isinstance(outcome, int) else 0


def _fail(message: str, code: int = FAILED) -> int:
    click.echo(f"askonce: {message}", err=True)
    return code
