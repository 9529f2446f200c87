"""The local door: ``POST /v1/events`` for the agent's events, and the health door's three routes.

202 ``{"accepted": n}``: all of them are in the spool. 400 ``{"accepted": k, "rejected": [{"index", "reason", "errors":
[{"loc", "msg", "value"}]}]}``: the k valid ones are, the others never will be. 413, 415: nothing was read. 503 with
``Retry-After``: the spool is full and nothing was taken, so send all of it again.
"""

import asyncio
from functools import partial
from typing import Final

import structlog
from aiohttp import web

from schemas.reading import MAX_EVENT_BYTES
from service.door import HealthDoor
from service.instruments import DOOR_EVENTS
from sidecar.intake import Intake
from sidecar.spool import Full
from sidecar.submissions import JSON_TYPES, NDJSON_TYPES, read

log = structlog.get_logger(__name__)

_READ_S: Final = 30.0
_LARGE_BYTES: Final = 65_536


def _refuse(status: int, kind: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"error": {"type": kind, "message": message}}, status=status, headers=headers)


class _TooLargeError(Exception):
    """The body is larger than a door takes. Sending it again does not help."""


async def _body(request: web.Request) -> bytes:
    if (request.content_length or 0) > MAX_EVENT_BYTES:
        raise _TooLargeError
    parts: list[bytes] = []
    size = 0
    async for part in request.content.iter_any():
        size += len(part)
        if size > MAX_EVENT_BYTES:
            raise _TooLargeError
        parts.append(part)
    return b"".join(parts)


class Door:
    """The routes of one sidecar's door."""

    def __init__(self, tenant: str, agent: str, intake: Intake, health: HealthDoor) -> None:
        self._tenant = tenant
        self._agent = agent
        self._intake = intake
        self._health = health

    def application(self) -> web.Application:
        """The door as an aiohttp application."""
        application = web.Application()
        application.add_routes(self._health.routes())
        application.router.add_post("/v1/events", self._events)
        return application

    async def _events(self, request: web.Request) -> web.Response:
        kind = request.content_type
        if kind not in JSON_TYPES | NDJSON_TYPES:
            DOOR_EVENTS.labels("unsupported").inc()
            return _refuse(415, "unsupported_media_type", "send application/json or application/x-ndjson")
        try:
            async with asyncio.timeout(_READ_S):
                body = await _body(request)
        except _TooLargeError:
            DOOR_EVENTS.labels("too_large").inc()
            answer = _refuse(413, "too_large", f"a request may have at most {MAX_EVENT_BYTES:,} bytes: send less at once")
            # The rest of the body is not read, so the connection cannot be used again.
            answer.force_close()
            return answer
        except TimeoutError:
            return _refuse(408, "timeout", f"the body did not arrive within {_READ_S:g} s")
        reads = partial(read, body, ndjson=kind in NDJSON_TYPES, tenant=self._tenant, agent=self._agent)
        # Looked at closely a hostile megabyte takes seconds, in which heartbeats are to leave.
        submission = await asyncio.to_thread(reads) if len(body) > _LARGE_BYTES else reads()
        if submission.records:
            outcome = await self._intake.take(self._tenant, self._agent, submission.records)
            if isinstance(outcome, Full):
                DOOR_EVENTS.labels("full").inc(len(submission.records))
                log.warning("door.full", events=len(submission.records), reason=outcome.reason)
                return _refuse(503, "full", f"{outcome.reason}; NATS is away or slow: send it again later", {"Retry-After": "1"})
            DOOR_EVENTS.labels("accepted").inc(len(submission.records))
        if submission.rejected:
            DOOR_EVENTS.labels("rejected").inc(len(submission.rejected))
            log.info("door.rejected", events=len(submission.rejected), **submission.rejected[0].logged())
            answer_body = {
                "accepted": len(submission.records),
                "rejected": [rejection.view() for rejection in submission.rejected],
            }
            return web.json_response(answer_body, status=400)
        return web.json_response({"accepted": len(submission.records)}, status=202)
