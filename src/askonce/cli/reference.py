"""The reference of the command line, written from the commands themselves.

`python -m askonce.cli.reference` prints the page.
"""

import inspect
from collections.abc import Iterator

import click

from askonce.cli.app import app

_INTRODUCTION = """\
# Command line

<!-- Written by scripts/docs from the commands themselves; change those, not this page. -->

Install it with `pip install 'askonce[cli]'`. `askonce --help` and `askonce COMMAND --help` show
what this page says, `askonce --version` the version.

An error is one line on stderr. Exit codes: 0 done, 1 an error, 130 stopped with Ctrl-C; what
else a command may end with is said there.
"""


def markdown() -> str:
    """Write the reference as Markdown."""
    context = click.Context(app, info_name="askonce")
    parts = [_INTRODUCTION, _text(app)]
    for name in app.list_commands(context):
        command = app.get_command(context, name)
        if command is not None:
            parts += _section("##", name, command)
    return "\n".join(parts)


def _section(level: str, name: str, command: click.Command) -> Iterator[str]:
    yield f"{level} `{_usage(name, command)}`\n"
    yield _text(command)
    yield from _options(command)
    if isinstance(command, click.Group):
        for under, one in sorted(command.commands.items()):
            yield from _section(f"{level}#", f"{name} {under}", one)


def _usage(name: str, command: click.Command) -> str:
    arguments = [
        (one.name or "").upper() for one in command.params if isinstance(one, click.Argument)
    ]
    options = ["[OPTIONS]"] if any(isinstance(one, click.Option) for one in command.params) else []
    return " ".join(["askonce", name, *arguments, *options])


def _text(command: click.Command) -> str:
    return inspect.cleandoc(command.help or "") + "\n"


def _options(command: click.Command) -> Iterator[str]:
    options = [one for one in command.params if isinstance(one, click.Option)]
    if options:
        yield "\n".join(map(_option, options)) + "\n"


def _option(option: click.Option) -> str:
    value = "" if option.is_flag else f" {option.type.name.upper()}"
    required = " Must be given." if option.required else ""
    return f"- `{', '.join(option.opts)}{value}`: {option.help}{required}"


if __name__ == "__main__":
    click.echo(markdown(), nl=False)
