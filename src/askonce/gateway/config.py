"""What a gateway is told: one TOML file, the environment, and the flags of `askonce serve`."""

import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    StringConstraints,
    ValidationError,
    model_validator,
)

from askonce.errors import InputError

DEFAULT_PORT = 8787

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Server(_Strict):
    """Where the gateway listens, and how much one client may take of it. Times in seconds."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = DEFAULT_PORT
    workers: PositiveInt = 1
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    max_body_bytes: PositiveInt = 64 << 20
    max_header_bytes: PositiveInt = 64 << 10
    header_timeout: PositiveFloat = 10
    body_timeout: PositiveFloat = 30
    write_timeout: PositiveFloat = 60
    idle_timeout: PositiveFloat = 75
    shutdown_timeout: PositiveFloat = 120
    max_connections: PositiveInt = 10_000

    @model_validator(mode="after")
    def _tls_is_whole(self) -> "Server":
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together; give both or none")
        return self

    @property
    def is_loopback(self) -> bool:
        """Tell whether only programs of this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


class CachePolicy(_Strict):
    """What may be kept and given; left out, what stands above decides. Times in seconds."""

    namespace: str | None = None
    ttl: PositiveFloat | None = None
    max_age: NonNegativeFloat | None = None
    stale_if_error: NonNegativeFloat | None = None
    stale_while_revalidate: NonNegativeFloat | None = None
    random: bool | None = None
    no_store: bool | None = None

    def wishes(self) -> dict[str, Any]:
        """Give what is told of a policy, by the names of `askonce.policy`."""
        names = CachePolicy.model_fields
        return {name: value for name in names if (value := getattr(self, name)) is not None}


class Cache(CachePolicy):
    """The store, and the policy where no rule says otherwise."""

    store: str | None = None
    share: Literal["credential", "everyone"] = "credential"
    wait: NonNegativeFloat = 300
    on_disconnect: Literal["cancel", "finish"] = "cancel"


class Access(_Strict):
    """Who may come in. Times in seconds."""

    keys: str | None = None
    verify_for: PositiveFloat = 600
    trust_when_down: NonNegativeFloat = 86400
    metrics_token_env: str | None = None


def _is_base(url: str) -> str:
    if not re.fullmatch(r"https?://[A-Za-z0-9.\-\[\]:]+(/[A-Za-z0-9._~/\-]*)?", url):
        raise ValueError("give http:// or https://, a host and perhaps a path, nothing else")
    return url.rstrip("/")


class Upstream(_Strict):
    """A provider: where it is, which requests go there, and what they carry. Times in seconds."""

    name: Name
    base_url: Annotated[str, AfterValidator(_is_base)]
    paths: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    headers: Mapping[str, str] = Field(default_factory=dict)
    credential_env: str | None = None
    credential_header: str = "authorization"
    check: str | None = None
    proxy: str | None = None
    tls_authorities: Path | None = None
    connect_timeout: PositiveFloat = 5
    timeout: PositiveFloat = 600
    max_connections: PositiveInt = 1000


class Rule(CachePolicy):
    """A policy for some models or paths; the first rule that fits decides."""

    models: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    upstreams: tuple[str, ...] = ()


class Price(_Strict):
    """Dollars for a million tokens, for models that no public table knows."""

    model: str
    input: NonNegativeFloat
    output: NonNegativeFloat


OPENAI = Upstream(
    name="openai",
    base_url="https://api.openai.com/v1",
    paths=("/v1/*",),
    check="/v1/models",
)
ANTHROPIC = Upstream(
    name="anthropic",
    base_url="https://api.anthropic.com",
    paths=("/v1/messages", "/v1/messages/*"),
    marks=("anthropic-version",),
    check="/v1/models",
)


class Config(_Strict):
    """All that a gateway is told."""

    server: Server = Server()
    cache: Cache = Cache()
    access: Access = Access()
    upstreams: tuple[Upstream, ...] = (ANTHROPIC, OPENAI)
    rules: tuple[Rule, ...] = ()
    prices: tuple[Price, ...] = ()
    access_log: bool = True
    traces: bool = False

    @model_validator(mode="after")
    def _is_consistent(self) -> "Config":
        names = [upstream.name for upstream in self.upstreams]
        if not names:
            raise ValueError("there is no upstream; name at least one [[upstreams]]")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two upstreams are called {twice[0]!r}; names are also paths")
        for rule in self.rules:
            if unknown := set(rule.upstreams) - set(names):
                raise ValueError(f"a rule names the upstream {min(unknown)!r}; there are {names}")
        if not self.server.is_loopback and self.access.keys is None:
            raise ValueError(
                f"host {self.server.host!r} can be reached from other machines, and without keys "
                "whoever reaches it can use it: give [access] keys a store and create a key for "
                "each caller (askonce keys create), or listen on 127.0.0.1"
            )
        return self


def load(path: Path | None, overrides: Mapping[str, Mapping[str, Any]] | None = None) -> Config:
    """Read a configuration; `overrides` by section stand above the file.

    Raises InputError that names file, line and key of whatever cannot be used.
    """
    told: dict[str, Any] = {}
    text = ""
    if path is not None:
        try:
            text = path.read_text(encoding="utf-8")
            told = tomllib.loads(text)
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror or error}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: {error}") from None
    for section, values in (overrides or {}).items():
        given = told.setdefault(section, {})
        if isinstance(given, dict):
            given.update(values)
    try:
        config = Config.model_validate(told)
    except ValidationError as error:
        raise InputError(_explain(error, path, text)) from None
    _check_environment(config)
    return config


def _check_environment(config: Config) -> None:
    named = [(f"upstream {one.name!r}", one.credential_env) for one in config.upstreams]
    for whose, variable in (*named, ("[access]", config.access.metrics_token_env)):
        if variable and not os.environ.get(variable):
            raise InputError(f"{whose} takes a secret from ${variable}, which is not set")


def _explain(error: ValidationError, path: Path | None, text: str) -> str:
    problems: list[str] = []
    for one in error.errors():
        place = ".".join(str(part) for part in one["loc"])
        line = line_of(text, one["loc"])
        where = f"{path or 'the configuration'}{f', line {line}' if line else ''}"
        message = one["msg"].removeprefix("Value error, ")
        if one["type"] == "extra_forbidden":
            message = "there is no such key"
        problems.append(f"{where}: {place + ': ' if place else ''}{message}")
    return "; ".join(problems)


def line_of(text: str, place: tuple[int | str, ...]) -> int | None:
    """Tell on which line of a TOML text a key is given, None if it is not found.

    tomllib gives no lines for what it has read. Inline tables are found by the line they begin on.
    """
    best: int | None = None
    section: list[str] = []
    counts: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*(\[\[?)\s*([^\]]+?)\s*\]", line)
        assigned = re.match(r"\s*([A-Za-z0-9_\-\".]+)\s*=", line)
        if header:
            section = [part.strip().strip('"') for part in header[2].split(".")]
            if header[1] == "[[":
                counts[header[2]] = counts.get(header[2], -1) + 1
                section.append(str(counts[header[2]]))
            here = section
        elif assigned:
            here = section + [part.strip('"') for part in assigned[1].split(".")]
        else:
            continue
        wanted = [str(part) for part in place]
        if here == wanted[: len(here)] and here:
            best = number
    return best
