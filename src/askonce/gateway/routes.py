"""Which upstream a request is for, and its address there."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from askonce.gateway.config import Upstream

_ALLOWED = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@/%\-]*\Z")
_HIDDEN = re.compile(r"%(?:2[eEfF]|5[cC]|0[0-9a-fA-F]|1[0-9a-fA-F]|25)|%(?![0-9a-fA-F]{2})")
"""Dots, slashes, backslashes, control letters and percent signs in disguise, and half of one."""

_QUERY = re.compile(r"[\x21-\x7e]*\Z")


class NotRoutedError(Exception):
    """Say why a request is for no upstream."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Target:
    """Hold where a request goes: the upstream, and the path there."""

    upstream: Upstream
    path: str


@dataclass(frozen=True)
class Routes:
    """Choose among the upstreams that are configured, and no others."""

    upstreams: Sequence[Upstream]

    @property
    def need_model(self) -> bool:
        """Tell whether the model decides where a request goes."""
        return any(upstream.models for upstream in self.upstreams)

    def find(self, path: str, headers: Iterable[str], model: str) -> Target:
        """Choose by the name before the path, else by the model, a header's presence or the path.

        `headers` are names in lower case. Raises NotRoutedError.
        """
        first, slash, rest = path[1:].partition("/")
        for upstream in self.upstreams:
            if first == upstream.name and slash:
                return Target(upstream, path_at(upstream, f"/{rest}"))
        names = frozenset(headers)
        found = (
            *(one for one in self.upstreams if model and _fits(model, one.models)),
            *(one for one in self.upstreams if not names.isdisjoint(one.marks)),
            *(one for one in self.upstreams if _fits(path, one.paths)),
        )
        if found:
            return Target(found[0], path_at(found[0], path))
        known = ", ".join(f"/{upstream.name}/..." for upstream in self.upstreams)
        raise NotRoutedError(404, f"no upstream is configured for this request; there are {known}")


def check_path(path: str, query: str) -> None:
    """Refuse a path that could mean another one to somebody. Raises NotRoutedError."""
    plain = _ALLOWED.match(path) and "//" not in path and not _HIDDEN.search(path)
    # Some servers take what follows a semicolon off before they look at dots.
    if not plain or any(part.partition(";")[0] in (".", "..") for part in path.split("/")):
        raise NotRoutedError(400, "the path is not plain: no //, . or .., no encoded slash or dot")
    if not _QUERY.match(query):
        raise NotRoutedError(400, "the query holds letters that should be percent-encoded")


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def path_at(upstream: Upstream, path: str) -> str:
    """Give the path at the upstream, whose base may hold the version that paths begin with."""
    base = upstream.base_url.partition("://")[2].partition("/")[2]
    if not base:
        return path
    return f"/{base}{path.removeprefix('/v1') if path.startswith('/v1/') else path}"
