"""Where a Redis is and how to get in, as its URL says."""

import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from askonce.errors import InputError
from askonce.stores import Location

Kind = Literal["single", "cluster", "sentinel"]

TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs")

_PORTS: Mapping[Kind, int] = {"single": 6379, "cluster": 6379, "sentinel": 26379}
_HOST = re.compile(r"(\[[0-9a-fA-F:.%]+\]|[^\[\]:/,\s]+)(?::([0-9]{1,5}))?")
_EXAMPLES: Mapping[Kind, str] = {
    "single": "redis://user:password@host:6379/0",
    "cluster": "redis+cluster://user:password@host1:6379,host2:6379",
    "sentinel": "redis+sentinel://user:password@host1:26379,host2:26379/service/0",
}


class Node(NamedTuple):
    """Name one server."""

    host: str
    port: int
    is_sentinel: bool = False


@dataclass(frozen=True)
class Address:
    """Hold what a URL says. `tls` are redis-py's arguments for TLS, None without it."""

    shown: str
    kind: Kind
    nodes: tuple[Node, ...]
    user: str = ""
    password: str = field(default="", repr=False)
    database: int = 0
    service: str = ""
    tls: Mapping[str, str | bool] | None = None

    @classmethod
    def of(cls, location: Location) -> "Address":
        """Take a location apart. Raises InputError."""
        base, _, kind_name = location.scheme.partition("+")
        kind: Kind = "cluster" if kind_name == "cluster" else "sentinel" if kind_name else "single"
        begin = location.url.partition("://")[2].partition("?")[0]
        place, _, path = begin.rpartition("@")[2].partition("/")
        user, _, password = begin.rpartition("@")[0].partition(":")
        service, database = _service_and_database(location, kind, path)
        return cls(
            shown=location.shown.partition("?")[0],
            kind=kind,
            nodes=_nodes(location, kind, place),
            user=urllib.parse.unquote(user),
            password=urllib.parse.unquote(password),
            database=database,
            service=service,
            tls=_tls(location) if base in {"rediss", "valkeys"} else None,
        )

    def arguments(self, node: Node) -> dict[str, object]:
        """Give redis-py's arguments for a connection to a node.

        Sentinels are asked without a user, and hold no databases.
        """
        arguments: dict[str, object] = {"host": node.host, "port": node.port, "protocol": 2}
        if not node.is_sentinel:
            arguments["db"] = self.database
            if self.user or self.password:
                arguments |= {"username": self.user or None, "password": self.password}
        return {**arguments, **(self.tls or {})}


def _nodes(location: Location, kind: Kind, place: str) -> tuple[Node, ...]:
    nodes: list[Node] = []
    for part in place.split(","):
        match = _HOST.fullmatch(part)
        port = int(match[2] or _PORTS[kind]) if match else 0
        if match is None or not 0 < port < 2**16:
            raise InputError(
                f"{location.shown}: {part!r} is no host and port; write {_EXAMPLES[kind]}, "
                "and special characters in names and passwords as %40 and the like"
            )
        nodes.append(Node(match[1].strip("[]"), port, is_sentinel=kind == "sentinel"))
    if len(nodes) > 1 and kind == "single":
        raise InputError(
            f"{location.shown} names {len(nodes)} servers; write {_EXAMPLES['cluster']} for a "
            f"cluster, or {_EXAMPLES['sentinel']}"
        )
    return tuple(nodes)


def _service_and_database(location: Location, kind: Kind, path: str) -> tuple[str, int]:
    service, _, rest = path.partition("/") if kind == "sentinel" else ("", "", path)
    if not re.fullmatch("[0-9]{0,9}", rest) or (kind == "cluster" and int(rest or 0)):
        raise InputError(
            f"{location.shown}: {rest!r} is no number of a database; write {_EXAMPLES[kind]}"
        )
    if kind == "sentinel" and not service:
        raise InputError(f"{location.shown} names no service; write {_EXAMPLES[kind]}")
    return urllib.parse.unquote(service), int(rest or 0)


def _tls(location: Location) -> dict[str, str | bool]:
    given: dict[str, str | bool] = {
        name: location.options[name] for name in TLS_OPTIONS if name in location.options
    }
    if given.setdefault("ssl_cert_reqs", "required") not in {"required", "none"}:
        raise InputError(
            f"{location.shown}: ssl_cert_reqs is {given['ssl_cert_reqs']!r}; "
            "write required, or none to trust whoever answers"
        )
    for name, value in given.items():
        if name != "ssl_cert_reqs" and not Path(str(value)).is_file():
            raise InputError(f"{location.shown}: {name} names no file: {value!r}")
    return given | {"ssl_check_hostname": given["ssl_cert_reqs"] == "required"}
