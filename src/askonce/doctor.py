"""Checking a store: is it there, may it be written, is it quick, and set up as it should be."""

import re
import secrets
import statistics
import time
import urllib.parse
from collections.abc import Callable, Sequence
from dataclasses import replace

from askonce.core import codecs, entry
from askonce.core.finding import Finding
from askonce.core.keys import RESERVED
from askonce.core.lease import Leases
from askonce.core.store import Store
from askonce.errors import AskonceError, InputError, MissingExtraError, StoreError
from askonce.stores import Location
from askonce.stores.patience import patiently

__all__ = ["Finding", "examine", "secretless"]

_PREFIX = f"{RESERVED}doctor/"
_PROBE_SECONDS = 60.0
_LEASE_SECONDS = 5.0
_LOOKUPS = 20
_SECRET = re.compile(r"pass|secret|key|token|credential", re.IGNORECASE)


def examine(store: Callable[[], Store], *, patience: float = 1.0) -> list[Finding]:
    """Open a store, check it and close it; give what was found, the first that is wrong last.

    It writes one small entry under a key that no cache uses, and deletes it. A store that fails is
    given `patience` seconds to come back. Raises InputError and MissingExtraError, nothing else.
    """
    try:
        opened = store()
    except (InputError, MissingExtraError):
        raise
    except AskonceError as error:
        return [_wrong("reach", error)]
    with opened:
        key = _PREFIX + secrets.token_hex(8)
        try:
            # The first look-up may have to connect, which takes longer than any other.
            patiently(lambda: opened.read([key]), seconds=patience)
        except StoreError as error:
            return [_wrong("reach", error)]
        findings = [Finding("reach", "it answers")]
        for check in (_latency, _rights, _leases):
            findings += check(opened, key)
        try:
            findings += opened.diagnose()
        except StoreError as error:
            findings.append(_wrong("settings", error))
    return findings


def _latency(store: Store, key: str) -> list[Finding]:
    seconds: list[float] = []
    for _ in range(_LOOKUPS):
        begun = time.perf_counter()
        try:
            store.read([key])
        except StoreError as error:
            return [_wrong("latency", error)]
        seconds.append(time.perf_counter() - begun)
    median = statistics.median(seconds)
    told = f"{1000 * median:.3f} ms for a look-up, the median of {_LOOKUPS}"
    allowed = getattr(store, "lookup_timeout", None)
    if isinstance(allowed, float) and median > allowed / 2:
        return [
            Finding(
                "latency",
                f"{told}; {1000 * allowed:g} ms are allowed",
                "doubtful",
                "now and then a look-up will be too late and count as a miss: raise the option "
                "lookup_timeout, move closer to the server, or put a near tier before it",
            )
        ]
    return [Finding("latency", told)]


def _rights(store: Store, key: str) -> list[Finding]:
    """Write, read and delete a probe."""
    now = time.time()
    # Should this process be killed now, the probe is reclaimed in a minute.
    probe = entry.pack(entry.Entry(b"{}", codecs.JSON, now, now + _PROBE_SECONDS))
    findings: list[Finding] = []
    try:
        patiently(lambda: store.write({key: probe}, expires=now + _PROBE_SECONDS), seconds=1)
        if store.read([key]) != [probe]:
            findings.append(
                Finding(
                    "write",
                    "what was written is not what is read",
                    "wrong",
                    "is the store full, or does something else write to it?",
                )
            )
    except StoreError as error:
        findings.append(_wrong("write", error))
    try:
        store.delete([key])
        if store.read([key]) != [None]:
            findings.append(
                Finding("delete", "what was deleted is still there", "wrong", "report this")
            )
    except StoreError as error:
        if not findings:
            findings.append(_wrong("delete", error))
    return findings or [Finding("rights", "it may be read, written and deleted from")]


def _leases(store: Store, key: str) -> list[Finding]:
    """Claim for one holder, then for another."""
    try:
        leases = store.leases
        if leases is None:
            return [
                Finding("leases", "none: several processes may ask for the same at the same time")
            ]
        works = _claims_exclude(leases, key)
    except StoreError as error:
        return [_wrong("leases", error)]
    if works:
        return [Finding("leases", "a claim of one keeps the others waiting")]
    return [
        Finding(
            "leases",
            "two may claim the same",
            "wrong",
            "look at the clock, and at who else writes to the place where claims are kept",
        )
    ]


def _claims_exclude(leases: Leases, key: str) -> bool:
    first, second = secrets.token_hex(8), secrets.token_hex(8)
    try:
        return (
            patiently(lambda: leases.take([key], first, _LEASE_SECONDS), seconds=1) == [key]
            and leases.take([key], second, _LEASE_SECONDS) == []
            and leases.drop([key], first) is None
            and leases.take([key], second, _LEASE_SECONDS) == [key]
        )
    finally:
        leases.drop([key], first)
        leases.drop([key], second)


def _wrong(check: str, error: Exception) -> Finding:
    """Tell of a failure; the errors of a store say themselves what to do."""
    return Finding(check, " ".join(str(error).split()), "wrong")


def secretless(url: str, findings: Sequence[Finding]) -> tuple[str, list[Finding]]:
    """Give a store's URL, and what was found there, without any password."""
    secrets_ = sorted(_secrets_of(url), key=len, reverse=True)

    def clean(text: str) -> str:
        for secret in secrets_:
            text = text.replace(secret, "***")
        return text

    shown = Location.of(url.partition("?")[0]).shown
    return clean(shown), [
        replace(one, told=clean(one.told), advice=clean(one.advice)) for one in findings
    ]


def _secrets_of(url: str) -> set[str]:
    """Find what may be a password in a URL, or in one inside it, as it is written and as meant."""
    found: set[str] = set()
    begin, _, query = url.partition("?")
    user = begin.partition("://")[2].rpartition("@")[0]
    found.add(user.partition(":")[2])
    for name, value in urllib.parse.parse_qsl(query, keep_blank_values=True):
        if "://" in value:
            found |= _secrets_of(value)
        if _SECRET.search(name):
            found.add(value)
    found |= {urllib.parse.unquote(secret) for secret in found}
    found |= {urllib.parse.quote(secret, safe="") for secret in found}
    return {secret for secret in found if secret}
