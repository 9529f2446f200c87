"""The event of one call: what it was, whose, how it went, what it used."""

import secrets
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from pydantic import JsonValue

from schemas.events import Event
from schemas.ids import derived_id, uuid7
from schemas.sections import Error, ModelCall, Policy, ResourceUsage, Run, Step, Tenant, Trace
from sidecar.metering.answers import Answer
from sidecar.metering.apis import Api
from sidecar.metering.asking import Asked
from sidecar.metering.attribution import Attribution
from sidecar.metering.conversations import Over

OBSERVED_BY: Final = "agentops.observed_by"
"""Tells the proxy's view of a call from the caller's own telemetry of the same call."""
UNKNOWN: Final = "unknown"


@dataclass(frozen=True, slots=True)
class Owner:
    """The agent whose sidecar this is."""

    tenant: Tenant
    agent_id: str

    def of(self, project: str | None) -> Tenant:
        """The tenant of a call, in its own project where it names one."""
        return self.tenant if project is None else self.tenant.model_copy(update={"project_id": project})


@dataclass(frozen=True, slots=True)
class Failed:
    """Why a call failed."""

    type: str
    message: str
    code: str | None = None
    retryable: bool | None = None


@dataclass(slots=True)
class Call:
    """One call as it goes on."""

    api: Api
    asked: Asked
    provider: str
    attribution: Attribution
    answer: Answer
    began: float
    """Monotonic, in seconds."""
    first_token: float | None = None
    streamed: bool = False
    run_id: str | None = None
    fault: str | None = None
    """The kind of fault it met."""
    notes: dict[str, JsonValue] = field(default_factory=dict)


def new_id(at: datetime) -> UUID:
    """A fresh id of this moment."""
    return uuid7(int(at.timestamp() * 1000), secrets.randbits(74))


def _name(value: str | None, most: int = 128) -> str | None:
    return None if not value else value[:most].replace("\x00", " ")


def event(owner: Owner, call: Call, usage: ResourceUsage | None, failed: Failed | None, *, ended: float, at: datetime) -> Event:
    """The event of a call that ended at ``ended`` (monotonic), which was ``at``."""
    answer, attribution = call.answer, call.attribution
    section = ModelCall(
        model_call_id=str(event_id := new_id(at)),
        provider=call.provider,
        model=_name(answer.model or call.asked.model) or UNKNOWN,
        step_id=attribution.step,
        response_id=answer.response_id,
        operation=call.api.operation,
        service_tier=answer.service_tier,
        latency_ms=_ms(ended - call.began),
        time_to_first_token_ms=None if call.first_token is None else _ms(call.first_token - call.began),
        finish_reason=answer.finish_reason,
        streamed=call.streamed,
    )
    attributes: dict[str, JsonValue] = {OBSERVED_BY: "proxy", **call.notes}
    if attribution.user is not None:
        attributes["user.id"] = attribution.user
    if call.fault is not None:
        attributes["agentops.fault"] = call.fault
    trace = None
    if attribution.trace_id is not None:
        trace = Trace(trace_id=attribution.trace_id, span_id=secrets.token_hex(8), parent_span_id=attribution.parent_span_id)
    return Event(
        event_version="v1",
        event_id=event_id,
        event_type="model_call.completed" if failed is None else "model_call.failed",
        occurred_at=at,
        tenant=owner.of(attribution.project),
        run=Run(agent_id=owner.agent_id, run_id=call.run_id),
        trace=trace,
        model_call=section,
        resource_usage=usage,
        error=None if failed is None else _error(failed),
        attributes=attributes,
    )


def _error(failed: Failed) -> Error:
    return Error(type=failed.type, message=failed.message, code=failed.code, retryable=failed.retryable)


def _ms(seconds: float) -> float:
    return round(max(0.0, seconds) * 1000, 3)


def conversation_began(owner: Owner, run_id: str, project: str | None, at: datetime) -> Event:
    """``run.started`` of a conversation; told twice it is the same event."""
    return _run_event(owner, run_id, project, "run.started", at, Run(agent_id=owner.agent_id, run_id=run_id, status="running"))


def conversation_over(owner: Owner, over: Over) -> Event:
    """``run.completed`` of a conversation, at its last sign of life."""
    duration_ms = _ms((over.last_at - over.began_at).total_seconds())
    run = Run(agent_id=owner.agent_id, run_id=over.run_id, status="completed", duration_ms=duration_ms)
    return _run_event(owner, over.run_id, over.project, "run.completed", over.last_at, run)


def _run_event(owner: Owner, run_id: str, project: str | None, event_type: Any, at: datetime, run: Run) -> Event:
    return Event(
        event_version="v1",
        event_id=derived_id(event_type, owner.tenant.tenant_id, owner.agent_id, run_id, at.isoformat()),
        event_type=event_type,
        occurred_at=at,
        tenant=owner.of(project),
        run=run,
        attributes={OBSERVED_BY: "proxy", "agentops.run_of": "conversation"},
    )


def blocked(
    owner: Owner,
    attribution: Attribution,
    *,
    policy_id: str,
    reason: str,
    times: int,
    provider: str,
    model: str | None,
    at: datetime,
) -> Event:
    """``policy.decision``: calls were refused, so many since it was last told."""
    attributes: dict[str, JsonValue] = {OBSERVED_BY: "proxy", "agentops.refused": times, "gen_ai.provider.name": provider}
    if model is not None:
        attributes["gen_ai.request.model"] = _name(model)
    return Event(
        event_version="v1",
        event_id=new_id(at),
        event_type="policy.decision",
        occurred_at=at,
        tenant=owner.of(attribution.project),
        run=Run(agent_id=owner.agent_id, run_id=attribution.run),
        step=None if attribution.step is None else Step(step_id=attribution.step, step_type="model_call"),
        policy=Policy(policy_id=policy_id, decision="block", action="model_call", reason=reason),
        attributes=attributes,
    )
