"""What the manager tells of what it did by itself: events and audit records. Pure."""

from datetime import datetime

from agent_manager.healing.roll import FleetLimits
from agent_manager.healing.withholding import FleetUnwell
from schemas.commands import AuditRecord
from schemas.events import Event
from schemas.ids import derived_id
from schemas.sections import Agent, Alert, Run, Tenant
from schemas.state import AgentRecord

_HEALED = "restarted by self-healing: "


def healed(reason: str) -> str:
    """Why an instance is a new one, in words; what is restarted again for the same reason says it once."""
    return _HEALED + reason.removeprefix(_HEALED)


def _tenant(record: AgentRecord) -> Tenant:
    return Tenant(tenant_id=record.tenant_id, workspace_id=record.workspace_id, project_id=record.project_id)


def registered(record: AgentRecord, changed: tuple[str, ...]) -> Event:
    """``agent.registered``: an agent is new, or its manifest changed in the fields named."""
    return Event(
        event_version="v1",
        event_id=derived_id("agent.registered", record.tenant_id, record.agent_id, record.updated_at.isoformat()),
        event_type="agent.registered",
        occurred_at=record.updated_at,
        tenant=_tenant(record),
        run=Run(agent_id=record.agent_id),
        agent=Agent(name=record.name, version=record.version, agent_type=record.agent_type),
        attributes={"changed": list(changed)} if changed else {},
    )


def gave_up(record: AgentRecord, reason: str, restarts: int, at: datetime) -> Event:
    """``alert.emitted``: self-healing stopped trying; a person is needed."""
    cause = ("crash_loop", record.tenant_id, record.agent_id, at.isoformat())
    return Event(
        event_version="v1",
        event_id=derived_id("alert.emitted", *cause),
        event_type="alert.emitted",
        occurred_at=at,
        tenant=_tenant(record),
        run=Run(agent_id=record.agent_id),
        alert=Alert(
            alert_id=str(derived_id(*cause)),
            type="crash_loop",
            severity="critical",
            threshold=float(record.healing.max_restarts),
            current_value=float(restarts),
            sent_at=at,
            message=f"self-healing of {record.agent_id} gave up: {reason}"[:8192],
        ),
        attributes={},
    )


def fleet_unwell(record: AgentRecord, why: FleetUnwell, limits: FleetLimits, at: datetime) -> Event:
    """``alert.emitted``: so many agents are in trouble that restarting them is held back; told by the first that is."""
    cause = ("fleet_unhealthy", record.tenant_id, record.agent_id, at.isoformat())
    return Event(
        event_version="v1",
        event_id=derived_id("alert.emitted", *cause),
        event_type="alert.emitted",
        occurred_at=at,
        tenant=_tenant(record),
        run=Run(agent_id=record.agent_id),
        alert=Alert(
            alert_id=str(derived_id(*cause)),
            type="fleet_unhealthy",
            severity="critical",
            threshold=limits.share,
            current_value=why.trouble / why.of,
            sent_at=at,
            message=f"self-healing holds back: {why.reason}. One agent is tried every {limits.trial.total_seconds():g} s",
        ),
        attributes={},
    )


def automatic(
    *,
    tenant: str,
    agent: str,
    actor: str,
    action: str,
    success: bool,
    reason: str,
    at: datetime,
    duration_ms: float | None = None,
) -> AuditRecord:
    """The audit record of something nobody asked for."""
    return AuditRecord(
        audit_id=str(derived_id("audit", actor, action, tenant, agent, at.isoformat())),
        at=at,
        tenant_id=tenant,
        agent_id=agent,
        actor=actor,
        action=action,
        outcome="success" if success else "error",
        reason=reason[:8192],
        duration_ms=duration_ms,
    )
