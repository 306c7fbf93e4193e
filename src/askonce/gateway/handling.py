"""One request on its way through the gateway."""

import asyncio
import dataclasses
import hashlib
import math
import re
import time
import urllib.parse
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import httpx2

from askonce.errors import InputError
from askonce.gateway import billing
from askonce.gateway.api_keys import ApiKey
from askonce.gateway.asking import Asking, cancelling, reason_of
from askonce.gateway.checking import Proof, proof_of
from askonce.gateway.client import Client, GoneError
from askonce.gateway.refusals import RefusedError, written
from askonce.gateway.remembering import Recall
from askonce.gateway.repeating import asked_by, find_repeated
from askonce.gateway.routes import NotRoutedError, Target, check_path
from askonce.gateway.state import State
from askonce.gateway.upstreams import Way, headers_back
from askonce.http import HTTPCache, libraries
from askonce.http.answering import Answerer
from askonce.http.identity import Origin, credential_of
from askonce.http.known import known
from askonce.http.passing import Headers
from askonce.http.steps import Library
from askonce.http.streams import streams
from askonce.http.transport_classes import adrain, asend, concerns
from askonce.wire import parse_body

_LIBRARY: Final = libraries.find("httpx2")
_STREAMS: Final = streams(_LIBRARY)


@dataclass(slots=True)
class Reply:
    """Hold an answer that needs no provider."""

    status_code: int
    headers: Headers
    chunks: Iterable[bytes]


class _Plain(Library):
    """Make replies without a response of the library: a hit costs half as much."""

    def reply(self, status: int, headers: Headers, chunks: Iterable[bytes]) -> Any:
        return Reply(status, headers, chunks)


_PLAIN: Final = _Plain(httpx2, _STREAMS.replay)


class Handling:
    """Answer one request.

    Afterwards `route`, `outcome`, `key` and `model` tell what became of it.
    """

    __slots__ = (
        "_client",
        "_content",
        "_method",
        "_models",
        "_path",
        "_query",
        "_state",
        "bill",
        "first_byte",
        "key",
        "model",
        "outcome",
        "recall",
        "route",
    )

    def __init__(self, state: State, client: Client, method: str, path: str, query: str) -> None:
        self._state = state
        self._client = client
        self._method = method
        self._path = path
        self._query = query
        self._content = b""
        self.recall: Recall | None = None
        self.key: ApiKey | None = None
        self.bill: billing.Bill | None = None
        self._models: tuple[str, ...] = ()
        self.model = ""
        self.route = ""
        self.outcome = "error"
        self.first_byte = 0.0

    async def run(self) -> None:
        """Answer, whatever happens; only what must end the connection is raised."""
        try:
            await self._answer()
        except GoneError:
            self._leave()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self._client.is_gone or task is None:
                raise
            task.uncancel()
            self._leave()
        except RefusedError as refused:
            await self._refuse(refused)
        except NotRoutedError as error:
            await self._refuse(RefusedError(error.status, str(error), "not_found"))
        except InputError as error:
            await self._refuse(RefusedError(400, str(error), "invalid_request"))
        except httpx2.LocalProtocolError:
            # Nothing was sent: a header holds what HTTP does not allow.
            await self._refuse(
                RefusedError(400, "a header of the request cannot be passed on", "invalid_request")
            )
        except httpx2.TimeoutException as error:
            self._count(error)
            await self._refuse(
                RefusedError(504, f"{self.route} did not answer in time", "upstream_timeout")
            )
        except httpx2.TransportError as error:
            self._count(error)
            await self._refuse(
                RefusedError(502, f"{self.route} cannot be reached or broke off", "upstream_failed")
            )
        finally:
            self._client.end()
            self._settle()

    def _leave(self) -> None:
        """Note that the caller went away; many do as soon as they have seen what they wanted."""
        if not self._client.status:
            self.outcome = "gone"

    async def _answer(self) -> None:
        state = self._state
        if state.access is not None:
            self.key = await state.access.admit(self._client.headers, self._query)
            self.bill = billing.Bill(self.key)
            billing.current.set(self.bill)
            if self._method == "POST" and await self._at_once(self.key):
                return
        if self._method == "TRACE":
            # Its answer is the request as the provider gets it, with all that was added here.
            raise RefusedError(405, "this gateway passes no TRACE on", "method_refused")
        check_path(self._path, self._query)
        if concerns(Origin(self._method, "", "", self._path, "")):
            self._content = await self._client.body()
            models = _models_of(self._content, self._path) if state.need_model else ("",)
            self._models, self.model = models, models[0]
            if self.key is not None and state.access is not None:
                state.access.check_answer(self.key, models)
            await self._cached(self._find())
        else:
            if state.access is not None and self.key is not None:
                state.access.check_other(self.key, self._method, self._path)
            await self._passed(self._find())

    async def _at_once(self, key: ApiKey) -> bool:
        """Answer what this key has asked before, byte for byte, if its models still cover it."""
        client = self._client
        client.asked = asked_by(client.scope, await client.peek(), key.id)
        recall = None if client.asked is None else find_repeated(self._state, client.asked)
        if recall is None:
            return False
        if self._state.access is not None:
            self._state.access.check_answer(key, recall.models)
        reply = recall.known.reply()
        if reply is None:
            return False
        await client.reply(200, *reply)
        self.outcome, self.route, self.recall = "hit", recall.route, recall
        return True

    def _remember(self, cache: HTTPCache, origin: Origin, digest: str) -> None:
        """Remember a request whose answer was kept, for whoever repeats it."""
        asked = self._client.asked
        if asked is None:
            return
        found = known(cache, cache.understand(origin, self._content))
        if found is not None:
            recall = Recall(found, digest, self.route, self._models)
            self._state.remembered.keep(asked, recall)

    def _find(self) -> Target:
        names = [name.decode("latin-1") for name, _ in self._client.headers]
        target = self._state.routes.find(self._path, names, self.model)
        self.route = target.upstream.name
        is_ours = self._state.access is None and target.upstream.credential_env
        if is_ours and (b"sec-fetch-site", b"cross-site") in self._client.headers:
            # Any page that the user looks at could spend what the gateway's own key may.
            raise RefusedError(
                403, "pages of other sites may not ask with this gateway's own key", "site_refused"
            )
        return target

    async def _cached(self, target: Target) -> None:
        state, key, came = self._state, self.key, time.time()
        way = state.ways[target.upstream.name]
        if self.bill is not None:
            self.bill.model = self.model
        origin = way.origin(self._method, target.path, self._query, self._client.headers)
        if key is not None:
            origin = _with_namespace(origin, key.namespace)
        cache = state.cache(target.upstream, self._path, self.model)
        if cache is None:
            # The store has never been there yet: then nobody knows who shares what with whom.
            await self._pass_on(way, origin, self._content)
            return
        digest = "" if key is not None else _who(way, origin, state.isolation_key)
        proof: Proof = "proven"
        if key is None and not state.acceptance.at_once(digest):
            proof = await proof_of(state.acceptance, self._client.headers, way, origin, digest)
        is_proven = proof == "proven"
        if not is_proven:
            # Then the answer must be as new as this request: it is asked for, or somebody with
            # the same credential is just asking; where all share, that may be any credential.
            age = f"max-age={max(0.0, time.time() - came):.6f}"
            fresh = ("cache-control", age if state.isolates else "no-cache")
            origin = dataclasses.replace(origin, headers=[*origin.headers, fresh])
        asking = Asking(state, self._client, way, cache, origin, digest=digest, bill=self.bill)
        asking.watch()
        answerer = Answerer(
            cache,
            _PLAIN,
            _STREAMS.tee,
            asking.in_background,
            origin,
            self._content,
            may_stand_in=proof != "none",
        )
        answer = await cache.arun(answerer.answer(), asking.call)
        if isinstance(answer, Reply):
            await self._reply(answer)
            if self.outcome == "hit" and is_proven:
                self._remember(cache, origin, digest)
        else:
            await self._stream(answer, of_cache=True)

    async def _passed(self, target: Target) -> None:
        """Pass a request on that no cache answers, as it comes and goes."""
        way = self._state.ways[target.upstream.name]
        origin = way.origin(self._method, target.path, self._query, self._client.headers)
        names = {name for name, _ in self._client.headers}
        has_body = b"transfer-encoding" in names or b"content-length" in names
        await self._pass_on(way, origin, self._incoming(cancelling()) if has_body else b"")

    async def _incoming(self, cancel: Callable[[], object]) -> AsyncIterator[bytes]:
        """Give the body as it comes, and from its end on notice if the caller goes away."""
        async for chunk in self._client.incoming():
            yield chunk
        self._client.watch(cancel)

    async def _pass_on(self, way: Way, origin: Origin, content: Any) -> None:
        self.outcome = "bypass"
        if self.bill is not None:
            self.bill.asked = True
        request = way.request(origin, self._client.headers, content, of_cache=False)
        if isinstance(content, bytes):
            self._client.watch(cancelling())
        response = await asend(httpx2, way.transport, request)
        self._client.watch(cancelling())
        await self._stream(response, of_cache=False)

    async def _reply(self, reply: Reply) -> None:
        headers = [
            (name.encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers
        ]
        status = dict(headers).get(b"cache-status", b"")
        if self.outcome == "error":
            self.outcome = _outcome(status.decode("latin-1"))
        self.first_byte = time.perf_counter()
        await self._client.reply(reply.status_code, headers, list(reply.chunks) or [b""])

    async def _stream(self, response: Any, *, of_cache: bool) -> None:
        """Send a response on, each piece when it comes."""
        if not 200 <= response.status_code < 600:
            await response.aclose()
            raise httpx2.RemoteProtocolError(f"{response.status_code} is no status of HTTP")
        headers = headers_back(response, self._state.ways[self.route], of_cache=of_cache)
        if self.outcome == "error":
            self.outcome = _outcome(response.headers.get("cache-status", ""))
        try:
            await self._client.begin(response.status_code, headers)
            self.first_byte = time.perf_counter()
            if self._method == "HEAD":
                await self._client.give(b"", more=False)
                return
            length = _length_of(headers)
            if self.outcome == "request" and length < math.inf:
                # Whoever asks next must not get the answer that this one is to replace.
                whole = [chunk async for chunk in response.stream]
                await self._client.give(b"".join(whole), more=False)
                return
            # Whoever has it all need not wait until it is kept, but a bill is paid before the next.
            has_budget = self.key is not None and self.key.budget_per_day is not None
            left = math.inf if has_budget else length
            async for chunk in response.stream:
                left -= len(chunk)
                await self._client.give(chunk, more=left > 0)
            if not self._client.has_ended:
                await self._client.give(b"", more=False)
        except GoneError:
            if self._state.config.cache.on_disconnect == "finish":
                await adrain(response)
            raise
        finally:
            await response.aclose()

    async def _refuse(self, refused: RefusedError) -> None:
        if self.outcome == "error":
            self.outcome = "refused" if refused.status < 500 else "error"
        if self._client.status:
            # The head is out: that the answer is cut short must show, and does.
            return
        if refused.status in (401, 403, 429):
            self._state.metrics.denied(reason=refused.code)
        headers, body = written(refused)
        try:
            await self._client.begin(refused.status, headers)
            await self._client.give(b"" if self._method == "HEAD" else body, more=False)
        except GoneError:
            self.outcome = "gone"

    def _count(self, error: httpx2.TransportError) -> None:
        self._state.metrics.upstream_error(route=self.route, reason=reason_of(error))

    def _settle(self) -> None:
        client = self._client
        if self.bill is not None and client.status < httpx2.codes.BAD_REQUEST:
            self._state.settle(
                self.bill, read=len(self._content), sent=client.sent, streamed=client.is_events
            )


def _models_of(content: bytes, path: str) -> tuple[str, ...]:
    """Give the models that a request names, an empty string if it names none.

    A path that names one decides; whoever looks only at the body must not be misled.
    """
    try:
        body = parse_body(content)
    except InputError:
        body = {}
    told, others = body.get("model"), body.get("models")
    found = re.findall(r"/(?:models|deployments)/([^/:]+)", path, re.IGNORECASE)
    names = [urllib.parse.unquote(name) for name in found]
    # Some providers take others in place of a model that fails.
    more = others if isinstance(others, list) else []
    names += [name for name in (told, *more) if isinstance(name, str)]
    return tuple(names) or ("",)


def _who(way: Way, origin: Origin, key: bytes) -> str:
    """Digest who asks whom, for what one provider accepts is nothing to another."""
    told = f"{way.upstream.base_url} {credential_of(origin, key)}"
    return hashlib.sha256(told.encode()).hexdigest()


def _with_namespace(origin: Origin, namespace: str) -> Origin:
    """Put a request into a namespace, which no caller chooses."""
    own = ("askonce-namespace", namespace)
    return dataclasses.replace(
        origin, headers=[*(pair for pair in origin.headers if pair[0] != own[0]), own]
    )


def _length_of(headers: Iterable[tuple[bytes, bytes]]) -> float:
    """Tell how many bytes follow a head, infinity if it does not say."""
    lengths = [value for name, value in headers if name == b"content-length"]
    return int(lengths[0]) if len(lengths) == 1 and lengths[0].isdigit() else math.inf


def _outcome(cache_status: str) -> str:
    """Tell in a word what the cache did, from the last `Cache-Status` (RFC 9211)."""
    last = cache_status.rpartition("askonce; ")[2]
    if last.startswith("hit") or "collapsed" in last:
        return "hit"
    forwarded = re.match(r"fwd=([a-z-]+)", last)
    return forwarded[1] if forwarded else ("refused" if last else "bypass")
