"""Asking a provider whether it accepts a credential, by something that costs nothing."""

from collections.abc import Iterable
from typing import Literal

import httpx2

from askonce.gateway.acceptance import Acceptance
from askonce.gateway.routes import path_at
from askonce.gateway.upstreams import Way
from askonce.http.identity import Origin, is_credential
from askonce.http.transport_classes import adrain, asend

_SERVER_ERROR = 500


Finding = Literal["accepted", "refused", "down", "unsaid"]
"""`unsaid`: the provider has no such path, or the credential no right to it."""

Proof = Literal["proven", "lapsed", "none"]
"""`lapsed`: proven not long ago, and only the next answer of the provider can tell."""


async def check(way: Way, query: str, headers: Iterable[tuple[bytes, bytes]]) -> Finding:
    """Ask the provider's check path with the credentials of a request."""
    path = path_at(way.upstream, way.upstream.check or "/")
    origin = Origin("GET", way.scheme, way.authority, path, query)
    request = way.request(origin, headers, b"", of_cache=True)
    try:
        response = await asend(httpx2, way.transport, request)
        await adrain(response)
    except httpx2.TransportError:
        return "down"
    status = response.status_code
    if status == httpx2.codes.UNAUTHORIZED:
        return "refused"
    if httpx2.codes.is_success(status):
        return "accepted"
    is_down = status == httpx2.codes.TOO_MANY_REQUESTS or status >= _SERVER_ERROR
    return "down" if is_down else "unsaid"


async def proof_of(
    acceptance: Acceptance,
    headers: Iterable[tuple[bytes, bytes]],
    way: Way,
    origin: Origin,
    digest: str,
) -> Proof:
    """Tell whether the provider accepts the credential of a request, of all its `headers`."""
    standing = await acceptance.standing(digest)
    if standing == "accepted":
        return "proven"
    unproven: Proof = "lapsed" if standing == "lapsed" else "none"
    if way.upstream.check is None:
        return unproven
    credentials = [
        pair
        for pair in headers
        if is_credential(pair[0].decode("latin-1")) or pair[0] in way.upstream_marks
    ]
    found = await acceptance.once(digest, lambda: check(way, origin.query, credentials))
    if found == "refused":
        # It may be good for the request all the same: OpenAI says so of a key that is restricted,
        # too. The provider shall say it to the request itself.
        await acceptance.reject(digest)
        return "none"
    if found == "accepted":
        await acceptance.accept(digest)
        return "proven"
    # Who was accepted not long ago goes on while the provider is down.
    return "proven" if found == "down" and standing == "lapsed" else unproven
