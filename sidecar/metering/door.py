"""The metering proxy's door: requests to model providers pass, both ways as they come, and each call is measured.

Nothing is held back but what must be read whole: a request, up to ``MOST_REQUEST_BYTES``, all of them up to ``MOST_HELD_BYTES``
(beyond, one streams through unread; one that stalls is answered 408),
and the unfinished event of a stream from which something is hidden. A client that reads slowly slows the provider down; one
that leaves ends the call there too. Keys pass, and are neither logged nor kept. Fullness: at most ``MOST_IN_FLIGHT`` calls at
once, one more is answered 503.
"""

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import aiohttp
import structlog
from aiohttp import hdrs, web
from multidict import CIMultiDict
from yarl import URL

from service.instruments import METERED_CALLS
from sidecar.denials import HEADER as DENIED_HEADER
from sidecar.denials import Denials, retry_after_s
from sidecar.enforcement import Enforcer
from sidecar.metering import asking, attribution, failures, faults, refusals
from sidecar.metering.answers import Answer
from sidecar.metering.apis import Api, api_of
from sidecar.metering.attribution import Attribution, Misattributed
from sidecar.metering.bodies import IDLE_S, Body, Holding, StalledError
from sidecar.metering.calls import Call, Failed
from sidecar.metering.decoding import acceptable
from sidecar.metering.faults import FAULT_HEADER, Drill
from sidecar.metering.meter import Meter, Outcome
from sidecar.metering.providers import SENDS_USAGE_WHEN_ASKED, Upstream
from sidecar.metering.reading import Tap
from sidecar.metering.refusals import Refusal
from sidecar.policies import Policies
from sidecar.relaying import Relayed, application, end_to_end, session

log = structlog.get_logger(__name__)

MOST_IN_FLIGHT: Final = 2000
MOST_REQUEST_BYTES: Final = 64 * 1024 * 1024
MOST_HELD_BYTES: Final = 256 * 1024 * 1024
_CONNECT_S: Final = 10.0
_MOST_ERROR_BYTES: Final = 1024 * 1024
_TIDY_S: Final = 5.0
_MOST_REMEMBERED: Final = 100


class _BrokenByFaultError(Exception):
    """A fault ended the answer."""


class MeteringDoor:
    """Stands at one port for every provider in ``upstreams``, each under the name of its route."""

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        meter: Meter,
        tenant: str,
        enforcer: Enforcer,
        denials: Denials,
        policies: Policies,
        *,
        draw: Callable[[], float] = random.random,
        idle_s: float = IDLE_S,
    ) -> None:
        self._upstreams = upstreams
        self._meter = meter
        self._tenant = tenant
        self._enforcer = enforcer
        self._denials = denials
        self._policies = policies
        self._draw = draw
        self._idle_s = idle_s
        self._holding = Holding(MOST_REQUEST_BYTES, MOST_HELD_BYTES)
        self._session: aiohttp.ClientSession | None = None
        self._refuse_to_say: set[str] = set()
        """Origins that take no ``stream_options``."""
        self.in_flight = 0
        """Requests begun and not ended."""

    def application(self) -> web.Application:
        """The door as an aiohttp application; run it with ``auto_decompress=False`` and ``handler_cancellation=True``."""
        return application(self._handle, self._client)

    async def _client(self, _: web.Application) -> AsyncIterator[None]:
        async with session(keepalive_s=15.0, connect_s=_CONNECT_S) as self._session:
            yield

    async def run(self) -> None:
        """Tells what is over, until cancelled."""
        while True:
            await asyncio.sleep(_TIDY_S)
            self._meter.tidy(time.monotonic())

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        _, _, behind = request.raw_path.partition("/")
        name, slash, rest = behind.partition("/")
        upstream = self._upstreams.get(name.partition("?")[0])
        if upstream is None:
            routes = ", ".join(found.told_path for found in self._upstreams.values())
            message = f"no provider is metered under this path; base URLs here end in {routes}"
            return web.json_response({"error": {"type": "not_found", "code": "unknown_route", "message": message}}, status=404)
        if self.in_flight >= MOST_IN_FLIGHT:
            return self._refuse(upstream, Refusal(503, "busy", f"{MOST_IN_FLIGHT} calls are in flight", 1, final=False))
        self.in_flight += 1
        try:
            return await self._serve(request, upstream, f"{slash}{rest}" or "/")
        finally:
            self.in_flight -= 1

    def _refuse(self, upstream: Upstream, refusal: Refusal) -> web.Response:
        told = refusals.told(refusal, upstream.route.errors)
        return web.json_response(told.body, status=told.status, headers=told.headers)

    def _denied(self, upstream: Upstream, whose: Attribution, model: str | None, *, known: bool) -> Refusal | None:
        """Why a call may not pass now; before its model is ``known`` policies that name models wait."""
        now = datetime.now(UTC)
        spent = self._denials.refusal(now, whose.project)
        if spent is not None:
            METERED_CALLS.labels(upstream.provider, "denied").inc()
            self._meter.refused(
                spent.budget_id, spent.reason, whose, provider=upstream.provider, model=model, now=time.monotonic()
            )
            details = {"budget_id": spent.budget_id, "scope": spent.scope, "until": spent.until.isoformat()}
            details |= {"limit_usd": format(spent.limit_usd, "f"), "spent_usd": format(spent.spent_usd, "f")}
            return Refusal(
                429, "budget_exhausted", spent.reason, retry_after_s(spent, now), details=details,
                headers={DENIED_HEADER: f"budget; id={spent.budget_id}"},
            )  # fmt: skip
        blocked = self._policies.refusal(upstream.provider, model, now, whose.project) if known else None
        if blocked is not None:
            METERED_CALLS.labels(upstream.provider, "denied").inc()
            self._meter.refused(
                blocked.policy_id, blocked.reason, whose, provider=upstream.provider, model=model, now=time.monotonic()
            )
            return Refusal(
                403, "policy_denied", blocked.reason, details={"policy_id": blocked.policy_id, "scope": blocked.scope},
                headers={DENIED_HEADER: f"policy; id={blocked.policy_id}"},
            )  # fmt: skip
        return None

    async def _serve(self, request: web.Request, upstream: Upstream, path: str) -> web.StreamResponse:
        whose = attribution.read(request.headers, self._tenant)
        if isinstance(whose, Misattributed):
            return self._refuse(upstream, Refusal(400, "invalid_attribution", whose.why))
        if request.headers.get(hdrs.UPGRADE, "").lower() == "websocket":
            return self._refuse(upstream, Refusal(501, "not_metered", "websockets are not metered: use the HTTP API"))
        api = api_of(request.method, path.partition("?")[0])
        spends = request.method == hdrs.METH_POST
        if spends and (refusal := self._denied(upstream, whose, None, known=False)) is not None:
            return self._refuse(upstream, refusal)
        if api is None:
            if spends and (refusal := self._denied(upstream, whose, None, known=True)) is not None:
                return self._refuse(upstream, refusal)
            return await self._pass(request, upstream, path)
        with self._holding.one() as fits:
            body = Body(request.content, self._idle_s)
            try:
                raw = await body.whole(fits) if (request.content_length or 0) <= MOST_REQUEST_BYTES else None
            except StalledError:
                return self._stalled(upstream)
            return await self._asked(request, upstream, path, api, whose, raw, body)

    def _stalled(self, upstream: Upstream) -> web.Response:
        METERED_CALLS.labels(upstream.provider, "stalled").inc()
        message = f"the request's body did not go on for {self._idle_s:g} s"
        answer = self._refuse(upstream, Refusal(408, "slow_request", message, final=False))
        # The rest of it is not read, so the connection cannot be used again.
        answer.force_close()
        return answer

    async def _asked(
        self, request: web.Request, upstream: Upstream, path: str, api: Api, whose: Attribution, raw: bytes | None, rest: Body
    ) -> web.StreamResponse:
        """A call whose request was read, or is too large for that."""
        spends = request.method == hdrs.METH_POST
        asked = asking.read(api, raw)
        call = Call(api, asked, upstream.provider, whose, Answer(api.shape), time.monotonic())
        drill = faults.NOTHING if api.retrieves else faults.drill(self._enforcer.active, call.began, self._draw)
        call.fault = None if drill.cause is None else drill.cause.fault.kind
        if spends and (refusal := self._denied(upstream, whose, asked.model, known=True)) is not None:
            return self._refuse(upstream, refusal)
        self._meter.place(call, again=request.headers.get("x-stainless-retry-count", "0") != "0")
        if drill.refuse is not None:
            refusal = drill.refuse[1]
            kind = refusals.kind_of(upstream.route.errors, refusal.status)
            failed = Failed(kind, f"answered HTTP {refusal.status} by a fault injected on purpose", refusal.code, retryable=True)
            self._meter.conclude(call, Outcome(failed, spent=False))
            return self._refuse(upstream, refusal)
        return await self._metered(request, upstream, path, call, drill, raw, rest)

    def _headers(self, request: web.Request, *, plain: bool) -> CIMultiDict[str]:
        """What goes on to the provider: all but what is for us, for this connection, or would bring what cannot be read."""
        headers = end_to_end(request.headers)
        for name in [name for name in headers if name.lower().startswith(attribution.OURS)]:
            headers.popall(name, None)
        headers.pop(hdrs.HOST, None)
        accepted = acceptable(headers.pop(hdrs.ACCEPT_ENCODING, None))
        if accepted is not None or plain:
            headers[hdrs.ACCEPT_ENCODING] = "identity" if plain else accepted or "identity"
        return headers

    async def _ask(
        self, request: web.Request, upstream: Upstream, path: str, data: Any, *, plain: bool
    ) -> aiohttp.ClientResponse:
        assert self._session is not None
        headers = self._headers(request, plain=plain)
        if isinstance(data, bytes):
            headers.pop(hdrs.CONTENT_LENGTH, None)
        return await self._session.request(
            request.method,
            URL(upstream.origin_for(path) + path, encoded=True),
            headers=headers,
            data=data,
            allow_redirects=False,
        )

    async def _pass(self, request: web.Request, upstream: Upstream, path: str) -> web.StreamResponse:
        """Passes a request that calls no model."""
        body = Body(request.content, self._idle_s)
        try:
            answer = await self._ask(request, upstream, path, body.parts() if request.body_exists else None, plain=False)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            if body.stalled:
                return self._stalled(upstream)
            return self._refuse(upstream, _no_answer(error)[0])
        METERED_CALLS.labels(upstream.provider, "passed").inc()
        try:
            response = await _begin(request, answer, known_length=True)
            async for part in answer.content.iter_any():
                await response.write(part)
            await response.write_eof()
        except (aiohttp.ClientPayloadError, aiohttp.ClientConnectionError):
            _abort(request)
        finally:
            answer.close()
        return response

    async def _metered(
        self, request: web.Request, upstream: Upstream, path: str, call: Call, drill: Drill, raw: bytes | None, rest: Body
    ) -> web.StreamResponse:
        size = len(raw) if raw is not None else request.content_length or 0
        tap: Tap | None = None
        failed: Failed | None = failures.CLIENT_LEFT
        spent = True
        try:
            injects = (
                raw is not None
                and call.asked.lacks_usage
                and upstream.provider in SENDS_USAGE_WHEN_ASKED
                and upstream.origin not in self._refuse_to_say
            )
            plain = injects or drill.malform is not None
            body = raw if raw is not None else rest.parts()
            if injects and raw is not None and call.asked.body is not None:
                body = asking.with_usage(raw, call.asked.body)
            first = b""
            try:
                answer = await self._ask(request, upstream, path, body or None, plain=plain)
                if injects and answer.status in {400, 422}:
                    first = await answer.content.read(_MOST_ERROR_BYTES)
                    if b"stream_options" in first or b"include_usage" in first:
                        log.info("metering.usage_not_asked", route=upstream.route.name, because="the provider refuses the option")
                        if len(self._refuse_to_say) < _MOST_REMEMBERED:
                            self._refuse_to_say.add(upstream.origin)
                        answer.close()
                        injects, first = False, b""
                        answer = await self._ask(request, upstream, path, raw, plain=plain)
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                spent = False
                if rest.stalled:
                    return self._stalled(upstream)
                refusal, failed = _no_answer(error)
                log.info("metering.no_answer", route=upstream.route.name, error=type(error).__name__, code=refusal.code)
                return self._refuse(upstream, refusal)
            try:
                tap = Tap(
                    call.api,
                    content_type=answer.content_type,
                    encoding=answer.headers.get(hdrs.CONTENT_ENCODING),
                    failed=answer.status >= 400,
                    hides=injects,
                )
                call.answer, call.streamed = tap.answer, tap.streams
                spent = answer.status < 400
                response, broke_off = await self._relay(request, answer, call, tap, drill, first)
            finally:
                # Closed, not released, unless it is whole: what the client no longer wants, the provider need not finish.
                answer.close()
            if broke_off is not None:
                failed = broke_off
                _abort(request)
            elif spent:
                failed = None
                _from_headers(call.answer, answer.headers)
            else:
                failed = failures.refused(answer.status, tap.data, answer.headers)
            return response
        finally:
            # Here too where the client left, and this handler with it.
            if tap is not None and (failed is not None or not tap.answer.usage):
                tap.count_words()
            unread = None if tap is None else tap.unread
            read_bytes = 0 if tap is None else tap.read_bytes
            self._meter.conclude(call, Outcome(failed, spent=spent, size=size, read_bytes=read_bytes, unread=unread))

    async def _relay(
        self, request: web.Request, answer: aiohttp.ClientResponse, call: Call, tap: Tap, drill: Drill, first: bytes
    ) -> tuple[web.StreamResponse, Failed | None]:
        """The answer, as far as it came, and why it broke off, if it did."""
        more = {} if drill.cause is None else {FAULT_HEADER: faults.marked(drill.cause)}
        response = await _begin(request, answer, known_length=not tap.hides, more=more)
        if drill.slow is not None:
            await self._enforcer.while_active(*drill.slow)
        write: Callable[[bytes], Any] = response.write
        if drill is not faults.NOTHING:
            write = _Drilled(response, self._enforcer, drill, streams=tap.streams).write
        try:
            if first:
                tap.feed(first)
                await write(first)
            async for part in answer.content.iter_any():
                visible, words = tap.feed(part)
                if words and call.first_token is None:
                    call.first_token = time.monotonic()
                if visible:
                    await write(visible)
            if held := tap.end():
                await write(held)
            await response.write_eof()
        except ConnectionResetError:
            return response, failures.CLIENT_LEFT
        except (aiohttp.ClientError, _BrokenByFaultError):
            return response, failures.BROKEN
        return response, None


class _Drilled:
    """Writes an answer as faults have it."""

    def __init__(self, response: web.StreamResponse, enforcer: Enforcer, drill: Drill, *, streams: bool) -> None:
        self._response = response
        self._enforcer = enforcer
        self._drill = drill
        self._streams = streams
        self._written = 0
        self._malformed = False

    async def write(self, part: bytes) -> None:
        """``part``, or what the faults leave of it; raises _BrokenByFaultError where it ends."""
        for piece in faults.pieces(part) if self._streams else faults.halves(part):
            await self._write(piece)

    async def _write(self, piece: bytes) -> None:
        drill = self._drill
        late = self._written >= (faults.BEFORE_STALL if self._streams else 1)
        if late and drill.truncate is not None:
            await self._response.write(piece[: len(piece) // 2])
            raise _BrokenByFaultError
        if late and drill.stall is not None:
            await self._enforcer.while_active(drill.stall)
        if drill.malform is not None and not self._malformed and (late or not self._streams):
            piece = faults.MALFORMED if self._streams else b"[" + piece[1:]
            self._malformed = True
        self._written += 1
        await self._response.write(piece)


async def _begin(
    request: web.Request, answer: aiohttp.ClientResponse, *, known_length: bool, more: Mapping[str, str] | None = None
) -> web.StreamResponse:
    response = Relayed(answer)
    response.headers.update(more or {})
    if not known_length:
        response.headers.pop(hdrs.CONTENT_LENGTH, None)
    if hdrs.CONTENT_LENGTH not in response.headers and request.version == aiohttp.HttpVersion11:
        response.enable_chunked_encoding()
    await response.prepare(request)
    return response


def _abort(request: web.Request) -> None:
    """The client must see that the answer is not whole."""
    if request.transport is not None:
        request.transport.abort()


def _no_answer(error: Exception) -> tuple[Refusal, Failed]:
    """What the client is told, and what is told of the call, where the provider could not be asked."""
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno
        why = os.strerror(number) if number is not None and number > 0 else "it has no address, or no valid certificate"
    elif isinstance(error, aiohttp.ServerTimeoutError | TimeoutError):
        why = f"it took no connection within {_CONNECT_S:g} s"
    else:
        return Refusal(502, "no_answer", failures.NO_ANSWER.message, final=False), failures.NO_ANSWER
    failed = failures.unreachable(why)
    return Refusal(502, "upstream_unreachable", failed.message, final=False), failed


def _from_headers(answer: Answer, headers: Mapping[str, str]) -> None:
    """What Bedrock says of a call outside of its body."""
    if answer.shape not in {"converse", "invoke"}:
        return
    answer.response_id = answer.response_id or headers.get("x-amzn-requestid")
    if not answer.usage:
        counts = {
            ours: int(value)
            for ours, name in (("inputTokens", "input"), ("outputTokens", "output"))
            if (value := headers.get(f"x-amzn-bedrock-{name}-token-count", "")).isdecimal()
        }
        answer.reported(counts)
