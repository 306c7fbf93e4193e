"""What to do about it when a Redis says no, or nothing at all."""

from collections.abc import Sequence
from typing import Any

from redis import exceptions

from askonce.errors import StoreError, StoreRefusedError

_CREDENTIALS = (
    "the user or password is not accepted; write them as redis://user:password@host, with "
    "special characters as %40 and the like"
)
_RIGHTS = (
    "the user has not the rights; ACL SETUSER with '~askonce:*' (or your prefix) and '+@read "
    "+@write +@scripting +@connection' gives all that is needed"
)
_REPLICA = (
    "this is a replica, which takes no writes; give the URL of its master, or of the sentinels "
    "(redis+sentinel://host:26379/service)"
)
_FULL = (
    "it is full, and its policy is to give up nothing; raise maxmemory, or set maxmemory-policy "
    "to allkeys-lfu"
)
_NO_REDIS = "what answers there is no Redis; check host and port, and TLS (rediss://)"
_SILENT = (
    "see whether it or the network is overloaded, and whether it speaks TLS if the URL says so, "
    "or allow more seconds with ?lookup_timeout= (look-ups) or ?timeout= (all else)"
)
_LOST = "check host and port, whether it runs, and whether it wants TLS (rediss://)"

_SAID: Sequence[tuple[str, type[StoreError], str]] = (
    ("cluster support disabled", StoreError, "this is no cluster; write redis:// instead"),
    ("CLUSTERDOWN", StoreError, "see CLUSTER INFO, and whether all slots have a master"),
    ("MISCONF", StoreRefusedError, "see why it cannot save to its disk"),
    ("syntax error", StoreRefusedError, "askonce needs Redis 6.2 or later"),
    ("unknown command", StoreRefusedError, "askonce needs Redis 6.2 or later, with all commands"),
)
_ADVICE: Sequence[tuple[type[Exception], type[StoreError], str]] = (
    (exceptions.AuthenticationError, StoreError, _CREDENTIALS),
    (exceptions.NoPermissionError, StoreRefusedError, _RIGHTS),
    (exceptions.ReadOnlyError, StoreRefusedError, _REPLICA),
    (exceptions.OutOfMemoryError, StoreRefusedError, _FULL),
    (exceptions.BusyLoadingError, StoreError, "it will answer when it has read its data"),
    (exceptions.AskError, StoreError, "this is a node of a cluster; write redis+cluster://"),
    (exceptions.ClusterDownError, StoreError, "see CLUSTER INFO"),
    (exceptions.InvalidResponse, StoreError, _NO_REDIS),
    (exceptions.TimeoutError, StoreError, _SILENT),
    (exceptions.ConnectionError, StoreError, _LOST),
)


def explain(error: Exception, shown: str) -> StoreError:
    """Give an error that says which server failed, how, and what to do."""
    said = f"{shown}: {error}".strip()
    for text, kind, advice in _SAID:
        if text in str(error):
            return kind(f"{said}: {advice}")
    for cause, kind, advice in _ADVICE:
        if isinstance(error, cause):
            return kind(f"{said}: {advice}")
    return StoreError(said)


def check(replies: Sequence[Any]) -> None:
    """Raise the first error among replies."""
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
