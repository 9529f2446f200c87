"""From a request to its answer: who sends, how much, what of it is an event, and is it stored."""

import asyncio
import math
import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal

import orjson
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from schemas.errors import FieldError
from schemas.ids import uuid7
from schemas.keys import ApiKey
from schemas.reading import MAX_EVENT_BYTES
from service import bodies
from service.bodies import BodyRefusedError, Holding
from service.instruments import DOOR_EVENTS, GATEWAY_KEYS_REFUSED, GATEWAY_REQUESTS, GATEWAY_SECONDS
from sidecar.frames import Record
from sidecar.gateway import telemetry
from sidecar.gateway.publishing import PublishingIntake
from sidecar.gateway.rates import Rates, Wait
from sidecar.spool import Full
from sidecar.submissions import JSON_TYPES, NDJSON_TYPES, Rejection, Speaker, Submission, judge, parts
from streams.api_keys import KeyRing, Known, presented

log = structlog.get_logger(__name__)

Door = Literal["events", "telemetry"]
CLOSE: Final = {"Connection": "close"}
_AGAIN_S: Final = 1
_LARGE_BYTES: Final = 65_536
_MALFORMED: Final = frozenset({"malformed_json", "not_an_object", "empty", "nul_byte"})
_NOT_YOURS: Final = frozenset({"tenant_mismatch", "agent_mismatch"})


def answer(status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    """``body`` as JSON."""
    return Response(orjson.dumps(body), status, dict(headers or {}), "application/json")


def refuse(
    status: int, kind: str, message: str, retry_after_s: int | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """Nothing was taken."""
    after = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    return answer(status, {"error": {"type": kind, "message": message}}, {**(headers or {}), **after})


def receipt_status(submission: Submission) -> int:
    """202 where anything was accepted; else 400 not JSON, 403 not the key's to send, 422 JSON that breaks the contract."""
    if submission.records:
        return 202
    reasons = {each.reason for each in submission.rejected}
    if reasons <= _MALFORMED:
        return 400
    return 403 if reasons <= _NOT_YOURS else 422


def receipt(submission: Submission, repeated: frozenset[str]) -> dict[str, Any]:
    """The answer's body: one result an event, in the request's order."""
    results: list[dict[str, Any]] = [
        {
            "index": accepted.index, "event_id": record.event_id,
            "status": "duplicate" if record.event_id in repeated else "accepted",
        }
        for accepted, record in zip(submission.accepted, submission.records, strict=True)
    ]  # fmt: skip
    results += [
        {"index": each.index, "event_id": each.event_id, "status": "rejected", **_why(each)} for each in submission.rejected
    ]
    results.sort(key=lambda each: int(str(each["index"])))
    return {"accepted": len(submission.records), "rejected": len(submission.rejected), "results": results}


def _why(rejection: Rejection) -> dict[str, Any]:
    return {"reason": rejection.reason, "errors": [error.model_dump(exclude_none=True) for error in rejection.errors]}


def _fitting(submission: Submission, most: int) -> Submission:
    """Without what the NATS server would never take."""
    if all(len(record.line) <= most for record in submission.records):
        return submission
    kept, records, rejected = [], [], list(submission.rejected)
    for accepted, record in zip(submission.accepted, submission.records, strict=True):
        if len(record.line) <= most:
            kept.append(accepted)
            records.append(record)
        else:
            error = FieldError(loc="$", msg=f"this NATS server takes at most {most:,} bytes, this event has {len(record.line):,}")
            rejected.append(Rejection(accepted.index, "too_large", (error,), record.event_id))
    return Submission(tuple(records), tuple(rejected), tuple(kept))


class Doors:
    """The two doors of one gateway."""

    def __init__(self, ring: KeyRing, intake: PublishingIntake, rates: Rates, holding: Holding, *, body_s: float) -> None:
        self._ring = ring
        self._intake = intake
        self._rates = rates
        self._holding = holding
        self._body_s = body_s

    async def take(self, door: Door, request: Request) -> Response:
        """The answer to ``request``, counted."""
        began = time.perf_counter()
        try:
            response = await self._admit(door, request)
        except BodyRefusedError as error:
            DOOR_EVENTS.labels(error.kind).inc()
            # The rest of the body is not read, so the connection cannot be used again.
            response = refuse(error.status, error.kind, error.message, error.retry_after_s, headers=CLOSE)
        except ClientDisconnect:
            response = refuse(400, "gone", "the connection was closed before the body was complete")
        GATEWAY_REQUESTS.labels(door, str(response.status_code)).inc()
        GATEWAY_SECONDS.labels(door).observe(time.perf_counter() - began)
        return response

    async def _admit(self, door: Door, request: Request) -> Response:
        headers = request.headers
        key = self._known(headers.get("authorization"), headers.get("x-api-key"))
        if isinstance(key, Response):
            return key
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in JSON_TYPES | NDJSON_TYPES:
            raise BodyRefusedError(415, "unsupported", "send Content-Type application/json or application/x-ndjson")
        encoding = headers.get("content-encoding", "").strip().lower()
        length = headers.get("content-length")
        with self._holding.reserve(bodies.announced(length, encoding, MAX_EVENT_BYTES)):
            body = await bodies.read(request.stream(), encoding, MAX_EVENT_BYTES, self._body_s)
            return await self._keep(door, key, body, ndjson=kind in NDJSON_TYPES)

    def _known(self, authorization: str | None, api_key: str | None) -> ApiKey | Response:
        if not self._ring.read:
            return refuse(503, "starting", "keys are not known yet: send it again later", _AGAIN_S, headers=CLOSE)
        found = self._ring.judge(presented(authorization, api_key), datetime.now(UTC))
        if isinstance(found, Known):
            return found.key
        GATEWAY_KEYS_REFUSED.labels(found.reason).inc()
        return refuse(
            401, "unauthorized", "send a good API key as Authorization: Bearer … or x-api-key; `agentops keys create` makes one",
            headers=CLOSE | {"WWW-Authenticate": 'Bearer realm="agentops"'},
        )  # fmt: skip

    async def _keep(self, door: Door, key: ApiKey, body: bytes, *, ndjson: bool) -> Response:
        raws = parts(body, ndjson=ndjson)
        if door == "telemetry":
            now = datetime.now(UTC)
            raws = [telemetry.as_event(raw, key.tenant_id, now, _new_id()) if isinstance(raw, bytes) else raw for raw in raws]
        speaker = Speaker(key.tenant_id, agents=key.agents, called="this key")
        waiting = self._rates.take(key.tenant_id, max(1, len(raws)), time.monotonic())
        if isinstance(waiting, Wait):
            DOOR_EVENTS.labels("limited").inc(len(raws))
            return refuse(429, "too_many", "too many events of this tenant: send it again later", math.ceil(waiting.seconds))
        # Looked at closely a hostile megabyte takes seconds, in which others are to be answered.
        judged = await asyncio.to_thread(judge, raws, speaker) if len(body) > _LARGE_BYTES else judge(raws, speaker)
        submission = _fitting(judged, self._intake.most_event_bytes)
        repeated: set[str] = set()
        for agent, records in _by_agent(submission).items():
            kept = await self._intake.take(key.tenant_id, agent, records)
            if isinstance(kept, Full):
                DOOR_EVENTS.labels("full").inc(len(submission.records))
                log.warning("gateway.full", tenant_id=key.tenant_id, events=len(submission.records), reason=kept.reason)
                return refuse(503, "full", f"{kept.reason}: send all of it again later", _AGAIN_S)
            repeated |= kept.repeated
        DOOR_EVENTS.labels("accepted").inc(len(submission.records))
        if submission.rejected:
            DOOR_EVENTS.labels("rejected").inc(len(submission.rejected))
            log.info(
                "gateway.rejected", tenant_id=key.tenant_id, key_id=key.key_id, events=len(submission.rejected),
                **submission.rejected[0].logged(),
            )  # fmt: skip
        return answer(receipt_status(submission), receipt(submission, frozenset(repeated)))


def _by_agent(submission: Submission) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for accepted, record in zip(submission.accepted, submission.records, strict=True):
        found.setdefault(accepted.agent, []).append(record)
    return found


def _new_id() -> Any:
    return uuid7(time.time_ns() // 1_000_000, secrets.randbits(74))
