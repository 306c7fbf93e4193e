"""HTTP clients that cache, made like those that the SDKs make for themselves."""

import ipaddress
import socket
import urllib.request
from collections.abc import Callable
from types import ModuleType
from typing import Any

_MAX_CONNECTIONS = 1000
_MAX_IDLE_CONNECTIONS = 100
"""What the SDKs of OpenAI and Anthropic set."""

_KEEP_ALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 60, "TCP_KEEPCNT": 5}
"""Seconds, seconds and times: answers may take minutes, in which nothing is to be heard."""


def make_client(module: ModuleType, client: str, transport: str, wrap: Callable[[Any], Any]) -> Any:
    """Make the client of this name whose transports of that name are wrapped.

    As in clients without a transport of their own, requests go through the proxies that the
    environment names. Timeouts are left at the library's, which the SDKs replace by their own.
    """
    limits = module.Limits(
        max_connections=_MAX_CONNECTIONS, max_keepalive_connections=_MAX_IDLE_CONNECTIONS
    )
    settings: dict[str, Any] = {"limits": limits, "socket_options": _socket_options()}
    make = getattr(module, transport)
    mounts = {
        pattern: None if proxy is None else wrap(make(proxy=proxy, **settings))
        for pattern, proxy in proxies().items()
    }
    return getattr(module, client)(
        transport=wrap(make(**settings)), mounts=mounts, follow_redirects=True
    )


def _socket_options() -> list[tuple[int, int, int]]:
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    for name, value in _KEEP_ALIVE.items():
        if hasattr(socket, name):
            options.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    return options


def proxies() -> dict[str, str | None]:
    """Give the environment's proxies by the pattern of URLs they are for; None is no proxy."""
    named = urllib.request.getproxies()
    exceptions = [host.strip() for host in named.get("no", "").split(",") if host.strip()]
    if "*" in exceptions:
        return {}
    found: dict[str, str | None] = {
        f"{scheme}://": named[scheme] if "://" in named[scheme] else f"http://{named[scheme]}"
        for scheme in ("http", "https", "all")
        if named.get(scheme)
    }
    return found | {_pattern_of(host): None for host in exceptions}


def _pattern_of(host: str) -> str:
    """Write an entry of NO_PROXY as the libraries write patterns: a name covers those below it."""
    if "://" in host:
        return host
    try:
        address = ipaddress.ip_address(host.partition("/")[0].strip("[]"))
    except ValueError:
        exact = host.lower() == "localhost" or host.startswith("*.")
        return f"all://{host}" if exact else f"all://*{host}"
    return f"all://[{address}]" if address.version == 6 else f"all://{host}"
