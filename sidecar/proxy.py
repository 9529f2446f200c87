"""The reverse proxy in front of the agent: measures real requests, applies faults, adds nothing else.

Bodies stream both ways as they come (SSE and chunked included), still encoded; a client that leaves ends the request at
the agent too. An answer that a fault made carries ``X-Agentops-Fault``. Fullness: at most ``MOST_IN_FLIGHT`` requests at
once, one more is answered 503.
"""

import asyncio
import os
import random
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Final

import aiohttp
import structlog
from aiohttp import hdrs, web
from multidict import CIMultiDict
from yarl import URL

from service.instruments import PROXY_REQUESTS, PROXY_SECONDS
from sidecar.denials import HEADER as DENIED_HEADER
from sidecar.denials import Denials, retry_after_s
from sidecar.enforcement import Enforcer
from sidecar.failures import Failures, asked
from sidecar.faults import Active, Cut, Delay, Fail, Hold, Reset, Slow, treatment
from sidecar.relaying import Relayed, application, end_to_end, session
from sidecar.window import Traffic, Window

log = structlog.get_logger(__name__)

MOST_IN_FLIGHT: Final = 2000
FAULT_HEADER: Final = "X-Agentops-Fault"
_CONNECT_S: Final = 5.0
_PIECE: Final = 64
"""Bytes of a throttled body that are written at a time."""
_STREAMS: Final = frozenset({"text/event-stream", "application/x-ndjson"})
"""Answers that last as long as they like: their latency is the time to their beginning."""


class AgentAwayError(Exception):
    """The agent cannot be asked. Trying again helps once it is back."""


def _failure(status: int, kind: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"error": {"type": kind, "message": message}}, status=status, headers=headers)


def _injected(item: Active, status: int, message: str) -> web.Response:
    fault = item.fault
    return _failure(status, "injected_fault", message, {FAULT_HEADER: f"{fault.kind}; id={fault.fault_id}"})


def _reset(request: web.Request) -> None:
    """Ends the connection with RST: the client sees that it was broken, not that there was no more."""
    transport = request.transport
    if transport is None:
        return
    if (own := transport.get_extra_info("socket")) is not None:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _cause(outcome: str, status: int) -> tuple[str, str]:
    """Why a request failed that was answered at all: a word, and a sentence."""
    match outcome:
        case "fault":
            return "injected_fault", f"answered {status} by a fault instead of the agent"
        case "cut":
            return "injected_fault", "broken off by a fault"
        case "broken":
            return "agent_disconnected", "the agent closed the connection before its answer was whole"
        case _:
            return f"http_{status}", f"the agent answered {status}"


def refused(denials: Denials) -> web.Response | None:
    """429 with the reason in JSON while a spent budget denies; None: the call may pass."""
    now = datetime.now(UTC)
    flag = denials.refusal(now)
    if flag is None:
        return None
    told = {
        "type": "budget_exhausted", "message": flag.reason, "budget_id": flag.budget_id, "scope": flag.scope, "of": flag.of,
        "limit_usd": format(flag.limit_usd, "f"), "spent_usd": format(flag.spent_usd, "f"), "until": flag.until.isoformat(),
    }  # fmt: skip
    headers = {"Retry-After": str(retry_after_s(flag, now)), DENIED_HEADER: f"budget; id={flag.budget_id}"}
    return web.json_response({"error": told}, status=429, headers=headers)


class Proxy:
    """Stands at ``proxy_port`` for the agent at ``target``.

    ``away`` says why the agent cannot be asked, if so. While it is ``starting``, requests it could not take yet are not
    counted against it: they would condemn it the moment it is up.
    """

    def __init__(
        self,
        target: str,
        enforcer: Enforcer,
        away: Callable[[], str | None],
        starting: Callable[[], bool],
        denials: Denials,
        *,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._target = target.rstrip("/")
        self._enforcer = enforcer
        self._away = away
        self._starting = starting
        self._denials = denials
        self._draw = draw
        self._window = Window()
        self.failures = Failures()
        """Those of its requests that failed, until they are told."""
        self._pending: dict[object, float] = {}
        self._session: aiohttp.ClientSession | None = None

    @property
    def in_flight(self) -> int:
        """Requests begun and not ended."""
        return len(self._pending)

    def traffic(self) -> Traffic:
        """What the last ten seconds saw."""
        return self._window.traffic(time.monotonic(), self._pending.values())

    def application(self) -> web.Application:
        """The proxy as an aiohttp application; run it with ``auto_decompress=False`` and ``handler_cancellation=True``."""
        return application(self._handle, self._client)

    async def _client(self, _: web.Application) -> AsyncIterator[None]:
        # Below the keep-alive of common servers, so that a connection is rarely reused as it is being closed.
        async with session(keepalive_s=4.0, connect_s=_CONNECT_S) as self._session:
            yield

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if len(self._pending) >= MOST_IN_FLIGHT:
            PROXY_REQUESTS.labels("refused").inc()
            return _failure(503, "busy", f"{MOST_IN_FLIGHT} requests are in flight", {"Retry-After": "1"})
        if (denied := refused(self._denials)) is not None:
            # Not the agent's doing: neither its latency nor its errors.
            PROXY_REQUESTS.labels("denied").inc()
            return denied
        token = object()
        began_at = self._pending[token] = time.monotonic()
        outcome, failed, answered_at = "aborted", True, None
        cause, why = "client_left", "the client left before the answer was whole"
        try:
            # A fault may have held it while the budget was used up.
            met = await self._faulty(request)
            response: web.StreamResponse | None = met if isinstance(met, web.Response) else refused(self._denials)
            if response is None:
                shape = met if isinstance(met, tuple) else ()
                response, outcome, answered_at = await self._forward(request, shape)
            else:
                outcome = "fault"
            failed = response.status >= 500 or outcome in {"broken", "cut"}
            cause, why = _cause(outcome, response.status)
            return response
        except AgentAwayError as error:
            outcome = "unreachable"
            cause, why = "agent_unreachable", str(error)
            return _failure(503, "agent_unreachable", str(error), {"Retry-After": "1"})
        finally:
            del self._pending[token]
            now = time.monotonic()
            latency_s = (now if answered_at is None else answered_at) - began_at
            if not (outcome == "unreachable" and self._starting()):
                self._window.add(now, latency_s * 1000, failed=failed)
                if failed:
                    self.failures.add(cause, f"{asked(request.method, request.path)}: {why}")
            PROXY_REQUESTS.labels(outcome).inc()
            PROXY_SECONDS.observe(latency_s)

    async def _faulty(self, request: web.Request) -> web.Response | tuple[Slow | Cut, ...]:
        """The answer a fault gives, else what becomes of the agent's own."""
        active = self._enforcer.active
        if not active:
            return ()
        shape: list[Slow | Cut] = []
        for step in treatment(active, time.monotonic(), self._draw):
            match step:
                case Delay(cause, seconds):
                    await self._enforcer.while_active(cause, seconds)
                case Hold(cause):
                    await self._enforcer.while_active(cause)
                    return _injected(cause, 504, "a blackhole fault held this request until it ended")
                case Fail(cause, status):
                    return _injected(cause, status, "an error fault answered instead of the agent")
                case Reset(cause):
                    _reset(request)
                    return _injected(cause, 502, "a reset fault closed this connection")
                case Slow() | Cut():
                    shape.append(step)
        return tuple(shape)

    async def _forward(self, request: web.Request, shape: tuple[Slow | Cut, ...]) -> tuple[web.StreamResponse, str, float | None]:
        if (why := self._away()) is not None:
            raise AgentAwayError(why)
        assert self._session is not None
        if request.headers.get(hdrs.UPGRADE, "").lower() == "websocket":
            return await self._websocket(request)
        path = request.raw_path if request.raw_path.startswith("/") else request.rel_url.raw_path_qs
        try:
            upstream = await self._session.request(
                request.method,
                URL(self._target + path, encoded=True),
                headers=end_to_end(request.headers),
                data=request.content if request.body_exists else None,
                allow_redirects=False,
            )
        except aiohttp.ClientConnectorError as error:
            number = error.os_error.errno
            why = os.strerror(number) if number is not None and number > 0 else str(error.os_error)
            raise AgentAwayError(f"the agent takes no connection: {why}") from error
        except aiohttp.ServerTimeoutError as error:
            raise AgentAwayError(f"the agent took no connection within {_CONNECT_S:g} s") from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            log.info("proxy.no_answer", path=request.path, error=repr(error))
            return _failure(502, "agent_disconnected", "the agent closed the connection without an answer"), "broken", None
        try:
            return await self._relay(request, upstream, shape)
        finally:
            # Closed, not released: what the client no longer wants, the agent need not finish.
            upstream.close()

    async def _relay(
        self, request: web.Request, upstream: aiohttp.ClientResponse, shape: tuple[Slow | Cut, ...]
    ) -> tuple[web.StreamResponse, str, float | None]:
        response = Relayed(upstream)
        answered_at = time.monotonic() if upstream.content_type in _STREAMS else None
        if upstream.content_length is None and request.version == aiohttp.HttpVersion11:
            response.enable_chunked_encoding()
        await response.prepare(request)
        try:
            async for part in upstream.content.iter_any():
                if not shape:
                    await response.write(part)
                elif not await self._shaped(response, part, shape):
                    _reset(request)
                    return response, "cut", answered_at
        except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError):
            # The client must see that the answer is not whole.
            if request.transport is not None:
                request.transport.abort()
            return response, "broken", answered_at
        await response.write_eof()
        return response, f"{upstream.status // 100}xx", answered_at

    async def _shaped(self, response: Relayed, part: bytes, shape: tuple[Slow | Cut, ...]) -> bool:
        """Writes ``part`` as faults have it; False where they end the answer."""
        now = time.monotonic()
        cut = next((step for step in shape if isinstance(step, Cut) and step.cause.deadline > now), None)
        room = len(part) if cut is None else max(0, cut.after - response.relayed)
        slow = next((step for step in shape if isinstance(step, Slow)), None)
        kept = part[:room]
        while kept:
            piece, kept = (kept, b"") if slow is None else (kept[:_PIECE], kept[_PIECE:])
            if slow is not None:
                await self._enforcer.while_active(slow.cause, len(piece) / slow.bytes_per_s)
            await response.write(piece)
            response.relayed += len(piece)
        return cut is None or room >= len(part)

    async def _websocket(self, request: web.Request) -> tuple[web.StreamResponse, str, float | None]:
        assert self._session is not None
        asked = [part.strip() for part in request.headers.get("Sec-WebSocket-Protocol", "").split(",") if part.strip()]
        headers = CIMultiDict(
            (name, value) for name, value in end_to_end(request.headers).items() if not name.lower().startswith("sec-websocket")
        )
        try:
            agent = await self._session.ws_connect(
                URL(self._target + request.raw_path, encoded=True), headers=headers, protocols=asked, max_msg_size=0
            )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise AgentAwayError(str(error) or type(error).__name__) from error
        async with agent:
            client = web.WebSocketResponse(protocols=[agent.protocol] if agent.protocol else (), max_msg_size=0)
            await client.prepare(request)
            answered_at = time.monotonic()
            pumps = [
                asyncio.create_task(_pump(client, agent), name="websocket-up"),
                asyncio.create_task(_pump(agent, client), name="websocket-down"),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
            await client.close(code=agent.close_code or 1000)
            return client, "websocket", answered_at


Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def _pump(source: Socket, sink: Socket) -> None:
    async for message in source:
        if message.type is aiohttp.WSMsgType.TEXT:
            await sink.send_str(message.data)
        elif message.type is aiohttp.WSMsgType.BINARY:
            await sink.send_bytes(message.data)
