"""OTLP over HTTP: ``POST /v1/traces``, ``/v1/metrics``, ``/v1/logs``; protobuf or JSON, gzip or not.

200: kept; of a partial success how many items can never be events, and why. 400: not what it says it is; 408: the body
came too slowly; 413: too large; 415: neither protobuf nor JSON: sending it again does not help. 401, 403, 429: the sender may
not. 503 with ``Retry-After``: no room, nothing is promised, send all of it again. Errors are a ``google.rpc.Status``
in the request's encoding.
"""

from math import ceil
from typing import Final, Literal

import orjson
import structlog
from aiohttp import web

from service.instruments import OTLP_REQUESTS
from sidecar.otlp.bodies import MOST_BYTES, READ_S, TooLargeError, TooSlowError, UnreadableError, read, unpacked
from sidecar.otlp.receiving import RETRY_S, Busy, NoRoomError, Receiver, Taken
from sidecar.otlp.sources import Refused, Source, Sources

log = structlog.get_logger(__name__)

Signal = Literal["traces", "metrics", "logs"]

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"

_CODES: Final = {400: 3, 401: 16, 403: 7, 408: 4, 413: 3, 415: 3, 429: 8, 503: 14}
"""google.rpc.Code of an HTTP status."""


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def rpc_status(code: int, message: str) -> bytes:
    """A ``google.rpc.Status`` in protobuf: field 1 the code, field 2 the message."""
    text = message.encode()
    return b"\x08" + _varint(code) + b"\x12" + _varint(len(text)) + text


class HttpDoor:
    """The three routes, for every source."""

    def __init__(self, receiver: Receiver, sources: Sources, *, most_bytes: int = MOST_BYTES, read_s: float = READ_S) -> None:
        self._receiver = receiver
        self._sources = sources
        self._most_bytes = most_bytes
        self._read_s = read_s

    def routes(self) -> list[web.RouteDef]:
        """To be mounted in any application."""
        return [web.post("/v1/traces", self._traces)]

    async def _traces(self, request: web.Request) -> web.Response:
        return await self._answered(request, "traces")

    async def _answered(self, request: web.Request, signal: Signal) -> web.Response:
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
                outcome = await self._take(signal, media, source, body)
            except TooLargeError:
                return _closing(_refuse(media, 413, f"a request may have {self._most_bytes:,} bytes unpacked: send less at once"))
            except TooSlowError:
                return _closing(_refuse(media, 408, f"the body did not arrive within {self._read_s:g} s"))
            except NoRoomError as error:
                return _closing(_refuse(media, 503, f"{error}: send it again later", RETRY_S))
            except UnreadableError as error:
                log.info("otlp.unreadable", signal=signal, media=media, error=str(error))
                return _refuse(media, 400, str(error))
        if isinstance(outcome, Busy):
            return _refuse(media, 503, f"{outcome.reason}: send it again later", outcome.retry_after_s)
        return self._taken(signal, media, outcome)

    async def _take(self, signal: Signal, media: str, source: Source, body: bytes) -> Taken | Busy:
        from sidecar.otlp import wire  # noqa: PLC0415 - its 10 MB are for those who are sent OTLP

        return await self._receiver.traces(source, wire.traces(body))

    @staticmethod
    def _taken(signal: Signal, media: str, taken: Taken) -> web.Response:
        if media == JSON:
            found = {"rejectedSpans": str(taken.rejected), "errorMessage": taken.message} if taken.rejected else {}
            return web.Response(body=orjson.dumps({"partialSuccess": found} if found else {}), content_type=JSON)
        from sidecar.otlp import wire  # noqa: PLC0415

        answer = wire.traces_answer(taken.rejected, taken.message)
        return web.Response(body=answer.SerializeToString(), content_type=PROTOBUF)


def _closing(answer: web.Response) -> web.Response:
    # What is left of the body is not read, so the connection cannot be used again.
    answer.force_close()
    return answer


def _refuse(media: str, status: int, message: str, retry_after_s: float | None = None) -> web.Response:
    code = _CODES.get(status, 2)
    body = rpc_status(code, message) if media == PROTOBUF else orjson.dumps({"code": code, "message": message})
    headers = {"Retry-After": str(max(1, ceil(retry_after_s)))} if retry_after_s is not None else None
    return web.Response(status=status, body=body, content_type=media, headers=headers)
