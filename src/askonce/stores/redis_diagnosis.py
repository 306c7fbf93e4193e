"""What a Redis, or each master of a cluster, tells of its version, its clock and its memory."""

from collections.abc import Mapping, Sequence
from typing import Any

from redis.exceptions import NoPermissionError

from askonce.core.finding import Finding
from askonce.stores.diagnosis import clock_of
from askonce.stores.redis_address import Node
from askonce.stores.redis_errors import check
from askonce.stores.redis_server import RedisServer
from askonce.stores.redis_topology import Flow

_OLDEST = (6, 2)
_NEARLY_FULL = 0.9


def findings_of(server: RedisServer) -> list[Finding]:
    """Look at every master. Raises StoreError."""
    nodes = server.run(_masters(server))
    findings: list[Finding] = []
    for node in nodes:
        name = f" of {node.host}:{node.port}" if len(nodes) > 1 else ""
        info = server.run(_ask(node, b"INFO"))
        if isinstance(info, NoPermissionError):
            findings.append(
                Finding(
                    f"version{name}",
                    "not known: the user may not ask for it",
                    "doubtful",
                    "add +info and +time to its rights for as long as you look",
                )
            )
            continue
        check([info])
        told = _parsed(info)
        findings += [
            _version(name, told),
            _memory(name, told),
            _eviction(name, told),
            *_role(name, told),
        ]
        findings += _clock(server, node, name)
    return findings


def _masters(server: RedisServer) -> Flow[Sequence[Node]]:
    return (yield from server.topology.masters())


def _ask(node: Node, command: bytes) -> Flow[Any]:
    (reply,) = (yield {node: [(command,)]})[node]
    return reply


def _parsed(info: bytes) -> Mapping[str, str]:
    lines = info.decode(errors="replace").splitlines()
    return {name: text for name, colon, text in (line.partition(":") for line in lines) if colon}


def _version(name: str, told: Mapping[str, str]) -> Finding:
    kind, version = "Redis", told.get("redis_version", "0")
    if "valkey_version" in told:
        kind, version = "Valkey", told["valkey_version"]
    first = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if first >= _OLDEST:
        return Finding(f"version{name}", f"{kind} {version}")
    return Finding(f"version{name}", f"{kind} {version}", "wrong", "askonce needs 6.2 or later")


def _memory(name: str, told: Mapping[str, str]) -> Finding:
    used, most = int(told.get("used_memory", 0)), int(told.get("maxmemory", 0))
    if not most:
        return Finding(
            f"memory{name}",
            f"{used / 2**20:,.0f} MiB are used, without a limit",
            "doubtful",
            "set maxmemory, and maxmemory-policy to allkeys-lfu, or it grows until the system "
            "ends it",
        )
    return Finding(f"memory{name}", f"{used / 2**20:,.0f} MiB of {most / 2**20:,.0f} MiB are used")


def _eviction(name: str, told: Mapping[str, str]) -> Finding:
    policy = told.get("maxmemory_policy", "unknown")
    used, most = int(told.get("used_memory", 0)), int(told.get("maxmemory", 0))
    if not most or policy.startswith("allkeys"):
        return Finding(f"eviction{name}", f"the policy is {policy}")
    full = used > _NEARLY_FULL * most
    return Finding(
        f"eviction{name}",
        f"the policy is {policy}, which gives up "
        + ("nothing" if policy == "noeviction" else "only what has an end"),
        "wrong" if full else "doubtful",
        "set maxmemory-policy to allkeys-lfu, or new answers are not kept once it is full",
    )


def _role(name: str, told: Mapping[str, str]) -> list[Finding]:
    if told.get("role", "master") == "master":
        return []
    return [
        Finding(
            f"role{name}",
            "it is a replica",
            "wrong",
            "give the URL of its master, or of the sentinels (redis+sentinel://host:26379/service)",
        )
    ]


def _clock(server: RedisServer, node: Node, name: str) -> list[Finding]:
    def ask() -> float:
        reply = server.run(_ask(node, b"TIME"))
        check([reply])
        seconds, microseconds = map(int, reply)
        return seconds + microseconds / 1e6

    reply = server.run(_ask(node, b"TIME"))
    if isinstance(reply, NoPermissionError):
        return []
    found = clock_of(ask)
    return [Finding(f"clock{name}", found.told, found.state, found.advice)]
