"""OTLP over HTTP: ``POST /v1/traces``, ``/v1/metrics``, ``/v1/logs``; protobuf or JSON, gzip or not.

200: kept; of a partial success how many items can never be events, and why. 400: not what it says it is; 408: the body
came too slowly; 413: too large; 415: neither protobuf nor JSON: sending it again does not help. 401, 403, 429: the sender may
not. 503 with ``Retry-After``: no room, nothing is promised, send all of it again. Errors are a ``google.rpc.Status``
in the request's encoding.
"""

from collections.abc import Iterator
from functools import partial
from math import ceil
from typing import Final, Protocol

import orjson
import structlog
from aiohttp import web

from privacy.redaction import Tally, redact
from privacy.rules import STRICTEST
from service.instruments import OTLP_REQUESTS
from sidecar.otlp.bodies import MOST_BYTES, READ_S, TooLargeError, TooSlowError, UnreadableError, read, unpacked
from sidecar.otlp.exports import Group
from sidecar.otlp.reading import LogLine, Point, Span
from sidecar.otlp.receiving import RETRY_S, Busy, NoRoomError, Receiver, Taken
from sidecar.otlp.rpc_status import CODES, rpc_status
from sidecar.otlp.signals import REJECTED, SIGNALS, Signal
from sidecar.otlp.sources import Refused, Source, Sources

log = structlog.get_logger(__name__)

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"


class HttpDoor:
    """The three routes, for every source."""

    def __init__(self, receiver: Receiver, sources: Sources, *, most_bytes: int = MOST_BYTES, read_s: float = READ_S) -> None:
        self._receiver = receiver
        self._sources = sources
        self._most_bytes = most_bytes
        self._read_s = read_s

    def routes(self) -> list[web.RouteDef]:
        """To be mounted in any application."""
        return [web.post(f"/v1/{signal}", partial(self._answered, signal)) for signal in SIGNALS]

    async def _answered(self, signal: Signal, request: web.Request) -> web.Response:
        answer = await self._answer(request, signal)
        OTLP_REQUESTS.labels("http", signal, str(answer.status)).inc()
        return answer

    async def _answer(self, request: web.Request, signal: Signal) -> web.Response:
        media = request.content_type
        if media not in {PROTOBUF, JSON}:
            return _refuse(JSON, 415, f"Content-Type is {media[:80]!r}: send {PROTOBUF} or {JSON}")
        source = self._sources(request.headers)
        if isinstance(source, Refused):
            return _refuse(media, source.status, source.reason, source.retry_after_s)
        with self._receiver.room() as room:
            try:
                body = await read(request.content.iter_any(), request.content_length, room.grow, self._most_bytes, self._read_s)
                packed = len(body)
                body = unpacked(body, request.headers.get("Content-Encoding", "").strip().lower(), self._most_bytes)
                room.grow(max(0, len(body) - packed))
                with self._receiver.arrival(source, signal, body) as arrival:
                    outcome = await self._take(signal, media, source, body, arrival.at)
                    # Who has hung up sends it again.
                    arrival.answered = isinstance(outcome, Taken) and request.transport is not None
            except TooLargeError:
                return _closing(_refuse(media, 413, f"a request may have {self._most_bytes:,} bytes unpacked: send less at once"))
            except TooSlowError:
                return _closing(_refuse(media, 408, f"the body did not arrive within {self._read_s:g} s"))
            except NoRoomError as error:
                return _closing(_refuse(media, 503, f"{error}: send it again later", RETRY_S))
            except UnreadableError as error:
                log.info("otlp.unreadable", signal=signal, media=media, error=redact(str(error), STRICTEST, Tally()))
                return _refuse(media, 400, str(error))
        if isinstance(outcome, Busy):
            return _refuse(media, outcome.status, f"{outcome.reason}: send it again later", outcome.retry_after_s)
        return self._taken(signal, media, outcome)

    async def _take(self, signal: Signal, media: str, source: Source, body: bytes, at: int) -> Taken | Busy:
        from sidecar.otlp import json_form, wire  # noqa: PLC0415 - its megabytes are for those who are sent some

        form: _Form = json_form if media == JSON else wire
        match signal:
            case "traces":
                return await self._receiver.traces(source, form.traces(body), at)
            case "logs":
                return await self._receiver.logs(source, form.logs(body), at)
            case "metrics":
                return await self._receiver.metrics(source, form.metrics(body), at)

    @staticmethod
    def _taken(signal: Signal, media: str, taken: Taken) -> web.Response:
        if media == JSON:
            told = {REJECTED[signal]: str(taken.rejected), "errorMessage": taken.message} if taken.rejected else None
            return web.Response(body=orjson.dumps({"partialSuccess": told} if told else {}), content_type=JSON)
        from sidecar.otlp import wire  # noqa: PLC0415

        return web.Response(body=wire.answer(signal, taken.rejected, taken.message), content_type=PROTOBUF)


class _Form(Protocol):
    """One of the encodings."""

    def traces(self, body: bytes) -> Iterator[Group[Span]]: ...

    def logs(self, body: bytes) -> Iterator[Group[LogLine]]: ...

    def metrics(self, body: bytes) -> Iterator[Group[Point]]: ...


def _closing(answer: web.Response) -> web.Response:
    # What is left of the body is not read, so the connection cannot be used again.
    answer.force_close()
    return answer


def _refuse(media: str, status: int, message: str, retry_after_s: float | None = None) -> web.Response:
    code = CODES.get(status, 2)
    body = rpc_status(code, message) if media == PROTOBUF else orjson.dumps({"code": code, "message": message})
    headers = {"Retry-After": str(max(1, ceil(retry_after_s)))} if retry_after_s is not None else None
    return web.Response(status=status, body=body, content_type=media, headers=headers)
