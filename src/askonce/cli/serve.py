"""The command that serves the gateway."""

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from askonce.errors import MissingExtraError

_CONFIG = "ASKONCE_CONFIG"


@click.command()
@click.option(
    "--config",
    "path",
    envvar=_CONFIG,
    type=click.Path(dir_okay=False, path_type=Path),
    help="A TOML file.",
)
@click.option("--host", envvar="ASKONCE_HOST", help="Where to listen (default 127.0.0.1).")
@click.option("--port", envvar="ASKONCE_PORT", type=int, help="The port (default 8787; 0: any).")
@click.option("--workers", envvar="ASKONCE_WORKERS", type=int, help="Worker processes (default 1).")
@click.option("--store", envvar="ASKONCE_STORE", help="The URL of the store of answers.")
@click.option("--keys", envvar="ASKONCE_KEYS", help="The URL of the store of API keys.")
@click.option("--check", is_flag=True, help="Check the configuration, and do not serve.")
def serve(  # noqa: PLR0917  click passes them by name
    path: Path | None,
    host: str | None,
    port: int | None,
    workers: int | None,
    store: str | None,
    keys: str | None,
    *,
    check: bool,
) -> int:
    """Serve the gateway: one URL in front of every program that asks models.

    Point a program to it by OPENAI_BASE_URL=http://localhost:8787/v1 or
    ANTHROPIC_BASE_URL=http://localhost:8787. Without any option it listens on this machine only,
    keeps answers in the user's data folder, and asks OpenAI and Anthropic with the credentials
    that come with each request. Options stand above the environment (ASKONCE_CONFIG, _HOST, _PORT,
    _WORKERS, _STORE, _KEYS), and that above the file.

    SIGHUP has the file read anew. SIGTERM and Ctrl-C finish what is under way, and end.
    """
    overrides = _overrides(
        {"host": host, "port": port, "workers": workers}, {"store": store}, {"keys": keys}
    )
    if check:
        _gateway("config").load(path, overrides)
        click.echo(f"{path or 'the configuration'} can be used")
        return 0
    code: int = _gateway("serving").serve(path, overrides)
    return code


def _overrides(*sections: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    told = {
        name: {key: value for key, value in section.items() if value is not None}
        for name, section in zip(("server", "cache", "access"), sections, strict=True)
    }
    return {name: section for name, section in told.items() if section}


def _gateway(module: str) -> Any:
    try:
        return importlib.import_module(f"askonce.gateway.{module}")
    except ImportError as error:
        if isinstance(error, MissingExtraError) or (error.name or "").startswith("askonce"):
            raise
        raise MissingExtraError(error.name or os.devnull, "gateway", "askonce serve") from error
