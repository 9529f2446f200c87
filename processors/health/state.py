from datetime import datetime
from typing import Annotated

from pydantic import Field

from schemas.events import AcceptedEvent
from schemas.model import Count, Instant, Lenient, Name, Text, Token
from schemas.sections import AgentStatus, Check, HealthStatus, Metrics
from schemas.state import Observation

DEFAULT_INTERVAL_S = 5.0


class AgentHealth(Lenient):
    """Everything the judge remembers of one agent; also its checkpoint (bucket ``checkpoints``)."""

    tenant_id: Token
    workspace_id: Token | None = None
    project_id: Token | None = None
    agent_id: Token
    applied: Count = 0
    """Position in EVENTS up to which this agent's events are in this state: reading them again changes nothing."""
    newest: Instant | None = None
    """Event time of the newest event that counted; what happened before it updates nothing."""
    arrived_at: Instant
    """When the last sign of life arrived."""
    health: HealthStatus
    status: AgentStatus
    reason: Text = ""
    since: Instant
    began_at: Instant | None = None
    """When the present trouble began; None when there is none behind us."""
    suspect_since: Instant | None = None
    """First of the bad heartbeats that are not enough yet."""
    started_at: Instant | None = None
    restarted: Text | None = None
    """Why the present instance took an earlier one's place; None once it is HEALTHY."""
    last_heartbeat: Instant | None = None
    last_event_id: str = ""
    interval_s: Annotated[float, Field(gt=0, le=3600)] = DEFAULT_INTERVAL_S
    good_beats: Count = 0
    bad_beats: Count = 0
    unknown_beats: Count = 0
    traffic_trouble: Text | None = None
    """What was wrong with the traffic when it was last known."""
    name: Name | None = None
    version: Name | None = None
    pid: Count | None = None
    proxy_url: Name | None = None
    metrics: Metrics = Metrics()
    checks: tuple[Check, ...] = ()
    active_faults: tuple[str, ...] = ()
    updated_at: Instant


class Portion(Lenient):
    """Agents that are written together."""

    agents: tuple[AgentHealth, ...]


class ReadUpTo(Lenient):
    """Checkpoint of the whole processor: every agent's state holds what EVENTS said up to here."""

    sequence: Count
    at: Instant


def event_time(event: AcceptedEvent) -> datetime:
    """When it happened, but never after it arrived: a sender's fast clock moves nothing forward."""
    return min(event.occurred_at, event.ingest.received_at)


def unseen(event: AcceptedEvent) -> AgentHealth:
    """The state of an agent before its first event."""
    return AgentHealth(
        tenant_id=event.tenant.tenant_id,
        workspace_id=event.tenant.workspace_id,
        project_id=event.tenant.project_id,
        agent_id=event.run.agent_id,
        arrived_at=event.ingest.received_at,
        health="HEALTHY",
        status="starting",
        since=event_time(event),
        updated_at=event.ingest.received_at,
    )


def observation(agent: AgentHealth) -> Observation:
    """What everybody may know of the agent: the value of bucket ``observations``."""
    return Observation(
        agent_id=agent.agent_id,
        tenant_id=agent.tenant_id,
        health=agent.health,
        status=agent.status,
        reason=agent.reason,
        since=agent.since,
        last_heartbeat=agent.last_heartbeat,
        heartbeat_interval_s=agent.interval_s,
        pid=agent.pid,
        version=agent.version,
        name=agent.name,
        metrics=agent.metrics,
        checks=agent.checks,
        active_faults=agent.active_faults,
        proxy_url=agent.proxy_url,
        began_at=agent.began_at,
        updated_at=agent.updated_at,
    )
