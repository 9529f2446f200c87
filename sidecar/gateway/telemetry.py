"""The older platform's report, ``POST /api/v1/telemetry``, in the words of today's contract. Pure: now and chance are arguments.

| report | event |
|---|---|
| ``status`` HEALTHY, UNHEALTHY, RECOVERING | ``agent.heartbeat`` with that health, the agent running |
| ``status`` running, starting, error | ``agent.heartbeat``: HEALTHY, RECOVERING, UNHEALTHY, with that status of the agent |
| ``status`` stopped, inactive | ``agent.stopped``, ``agent.status_changed`` |
| none, but ``metrics`` | ``metric.sampled`` |
| ``last_heartbeat``, else ``timestamp`` | ``occurred_at``; without a zone it is UTC; without either it is now |
| ``service_name``, ``version``, ``agent_type`` | ``agent`` |
| ``metrics`` | those the contract names by their names, other numbers as ``samples`` |
| ``active_faults`` (``LATENCY_INJECTION``, ``LATENCY``) | ``health.active_faults``, unknown ones as an attribute |
| ``error``, ``reason`` | ``health.reason``, ``agent.reason`` |
| ``event_id`` | ``event_id``; without one it follows from tenant and content where the report says when, else it is new |
| everything else (``config``, ``metadata`` …) | attributes of the same name |

What has ``event_version`` is an event already, ``v0`` or ``v1``, and is taken as such.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Annotated, Any, Final, get_args
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from schemas.errors import FieldError, field_errors, shown
from schemas.ids import derived_text
from schemas.model import Name, Text, Token
from schemas.reading import MAX_EVENT_BYTES, Rejected
from schemas.sections import FaultKind, Metrics

HEALTH_OF: Final[Mapping[str, tuple[str, str]]] = {
    "healthy": ("HEALTHY", "running"),
    "unhealthy": ("UNHEALTHY", "running"),
    "recovering": ("RECOVERING", "running"),
    "running": ("HEALTHY", "running"),
    "starting": ("RECOVERING", "starting"),
    "error": ("UNHEALTHY", "error"),
}
"""Health and status of the agent by what was reported."""
ENDED: Final[Mapping[str, str]] = {"stopped": "agent.stopped", "inactive": "agent.status_changed"}
STATUSES: Final = (*HEALTH_OF, *ENDED)
_FAULTS: Final = frozenset(get_args(FaultKind))
_NUMBERED: Final = frozenset(Metrics.model_fields) - {"samples"}
_WHOLE: Final = frozenset(name for name, field in Metrics.model_fields.items() if "int" in str(field.annotation))
_MOST_SAMPLES: Final = 256
_MOST_DIGITS: Final = 2**62


class Report(BaseModel):
    """A report of the older shape. Unknown fields are kept as attributes."""

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)

    agent_id: Token
    service_name: Name | None = None
    """Shown to people."""
    status: str | None = None
    """HEALTHY, UNHEALTHY, RECOVERING; running, starting, error, stopped, inactive."""
    last_heartbeat: datetime | None = None
    timestamp: datetime | None = None
    """Where ``last_heartbeat`` is not given."""
    metrics: Annotated[dict[str, Any], Field(max_length=_MOST_SAMPLES, default_factory=dict)]
    active_faults: Annotated[tuple[Name, ...], Field(max_length=32)] = ()
    version: Name | None = None
    agent_type: Name | None = None
    reason: Text | None = None
    error: Text | dict[str, Any] | None = None
    tenant_id: Token | None = None
    """If given, the key's tenant."""
    event_id: UUID | None = None
    interval_s: Annotated[float, Field(gt=0, le=3600)] | None = None
    """How often it is sent: three of these without a report is an absence."""

    @field_validator("status")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None and value.lower() not in STATUSES:
            raise ValueError(f"must be one of {', '.join(STATUSES)}, in any case")
        return value

    @property
    def at(self) -> datetime | None:
        """When it was, in UTC."""
        told = self.last_heartbeat or self.timestamp
        return told if told is None or told.tzinfo is not None else told.replace(tzinfo=UTC)

    @property
    def why(self) -> str | None:
        """What the sender says is the matter."""
        error = self.error
        if isinstance(error, dict):
            error = str(error.get("message") or error.get("type") or "")
        return self.reason or error or None


def _metrics(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The metrics section, and what no number is."""
    section: dict[str, Any] = {}
    samples, rest = [], {}
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            rest[name] = value
        elif name in _WHOLE and (isinstance(value, int) or (value.is_integer() and abs(value) < _MOST_DIGITS)):
            section[name] = int(value)
        elif name in _NUMBERED - _WHOLE:
            section[name] = value
        else:
            samples.append({"name": name, "value": value})
    if samples:
        section["samples"] = samples
    return section, rest


def _faults(given: tuple[str, ...]) -> tuple[list[str], list[str]]:
    known: list[str] = []
    rest: list[str] = []
    for name in given:
        kind = name.lower().removesuffix("_injection")
        (known if kind in _FAULTS else rest).append(kind if kind in _FAULTS else name)
    return list(dict.fromkeys(known)), rest


def _reject(reason: str, error: FieldError) -> Rejected:
    return Rejected(reason, (error,))


def as_event(raw: bytes, tenant: str, now: datetime, new_id: UUID) -> bytes | Rejected:
    """The report in ``raw`` as an event still to be judged; an event as it is; or why it is neither."""
    if len(raw) > MAX_EVENT_BYTES or b"\x00" in raw:
        return raw
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return raw
    if not isinstance(value, dict) or "event_version" in value:
        return raw
    try:
        report = Report.model_validate(value)
    except ValidationError as error:
        return Rejected("contract_violation", field_errors(error))
    if report.tenant_id not in {None, tenant}:
        message = f"this key speaks for tenant '{tenant}'"
        return _reject("tenant_mismatch", FieldError(loc="$.tenant_id", msg=message, value=shown(report.tenant_id)))
    if report.status is None and not report.metrics:
        return _reject("contract_violation", FieldError(loc="$.status", msg="a report has a status, or metrics, or both"))
    try:
        return orjson.dumps(_event(report, value, tenant, now, new_id))
    except (TypeError, OverflowError):
        return _reject("contract_violation", FieldError(loc="$", msg="holds what cannot be written as JSON again"))


def _event(report: Report, value: dict[str, Any], tenant: str, now: datetime, new_id: UUID) -> dict[str, Any]:
    metrics, odd_metrics = _metrics(report.metrics)
    faults, odd_faults = _faults(report.active_faults)
    attributes = dict(report.model_extra or {})
    if odd_metrics:
        attributes["metrics"] = odd_metrics
    if odd_faults:
        attributes["active_faults"] = odd_faults
    if isinstance(report.error, dict):
        attributes["error"] = report.error
    status = None if report.status is None else report.status.lower()
    at = report.at
    if report.event_id is not None:
        event_id = str(report.event_id)
    elif at is not None:
        whole = sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()
        event_id = derived_text("api.v1.telemetry", tenant, report.agent_id, whole)
    else:
        event_id = str(new_id)
    event: dict[str, Any] = {
        "event_version": "v1", "event_id": event_id, "occurred_at": (at or now).isoformat(),
        "tenant": {"tenant_id": tenant}, "run": {"agent_id": report.agent_id}, "attributes": attributes,
    }  # fmt: skip
    agent = {"name": report.service_name, "version": report.version, "agent_type": report.agent_type}
    why = report.why
    if status is None:
        event["event_type"] = "metric.sampled"
    elif status in ENDED:
        event["event_type"] = ENDED[status]
        agent |= {"status": status, "reason": why}
    else:
        health, life = HEALTH_OF[status]
        event["event_type"] = "agent.heartbeat"
        event["health"] = {"status": health, "reason": why, "active_faults": faults, "interval_s": report.interval_s}
        agent |= {"status": life, "reason": why}
    event["agent"] = agent
    if metrics:
        event["metrics"] = metrics
    return event
