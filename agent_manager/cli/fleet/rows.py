"""Agents as rows: what the manager wants, what the sidecar says and how health judges, side by side. Pure."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from schemas.sections import Fault
from schemas.state import AgentRecord, AgentState, FaultSet, Observation
from schemas.versions import Releases, Sighting


@dataclass(frozen=True, slots=True)
class Fleet:
    """The buckets about agents, by key ``<tenant>.<agent_id>``."""

    records: Mapping[str, AgentRecord]
    states: Mapping[str, AgentState]
    observations: Mapping[str, Observation]
    faults: Mapping[str, FaultSet]
    releases: Mapping[str, Releases] = field(default_factory=dict)
    sightings: Mapping[str, Sighting] = field(default_factory=dict)

    def agents(self) -> list[str]:
        """Every agent anybody knows of."""
        return sorted({*self.records, *self.states, *self.observations, *self.sightings})


@dataclass(frozen=True, slots=True)
class AgentRow:
    """One line of ``agents list``; its fields are the ``--json`` contract."""

    agent_id: str
    tenant_id: str
    name: str
    version: str | None
    agent_type: str | None
    status: str | None
    desired: str | None
    health: str | None
    reason: str
    since: datetime | None
    """When ``health`` last changed."""
    pid: int | None
    """The agent's own process."""
    sidecar_pid: int | None
    proxy_url: str | None
    started_at: datetime | None
    last_heartbeat: datetime | None
    latency_ms: float | None
    latency_p95_ms: float | None
    error_rate: float | None
    requests_per_s: float | None
    cpu_percent: float | None
    memory_rss_bytes: int | None
    spool_bytes: int | None
    spool_dropped: int | None
    """Events its sidecar has given up because its spool was full."""
    restarts: int
    gave_up: bool
    healing: bool | None
    withheld: str | None
    """Why it is in trouble and yet not restarted now."""
    maintenance_until: datetime | None
    """Until when a person asked that it be left alone."""
    faults: tuple[str, ...]
    """Kinds of the faults asked for and not yet past their deadline."""
    incident_reason: str | None
    incident_action: str | None
    """What was done about the current or latest unhealthy spell."""
    time_to_detect_s: float | None
    time_to_recover_s: float | None
    managed: bool
    """Whether the manager runs it; others are observed only."""
    environment: str | None
    stage: str | None
    """How far its current version is trusted."""
    trial: str | None
    """The version that is on trial."""
    resource: str | None = None
    """The Cloud Run service or worker pool that it is."""
    revision: str | None = None
    operation: str | None = None
    """What Google is doing for it at the moment."""
    logs_url: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values; moments as RFC 3339."""
        return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in asdict(self).items()}


def standing(faults: FaultSet | None, now: datetime) -> tuple[Fault, ...]:
    """The faults whose deadline is still ahead."""
    return tuple(fault for fault in faults.faults if fault.until > now) if faults is not None else ()


_BEATS_MISSED = 3
_BEAT_S = 30.0
"""Between two beats of an agent that does not say."""


def _announced(sighting: Sighting | None, now: datetime) -> str | None:
    if sighting is None:
        return None
    silence = timedelta(seconds=_BEATS_MISSED * (sighting.interval_s or _BEAT_S))
    return "running" if now - sighting.last_seen <= silence else "inactive"


def agent_row(key: str, fleet: Fleet, now: datetime) -> AgentRow:
    """The agent under ``key``, from whatever is known of it."""
    tenant_id, _, agent_id = key.partition(".")
    record, state, seen = fleet.records.get(key), fleet.states.get(key), fleet.observations.get(key)
    sighted, history = fleet.sightings.get(key), fleet.releases.get(key)
    current = next((one for one in history.releases if one.version == history.current), None) if history else None
    metrics = seen.metrics if seen is not None else None
    incident = state.incident if state is not None else None
    version = (seen.version if seen else None) or (state.version if state else None) or (record.version if record else None)
    if version is None and sighted is not None:
        version = sighted.version
    reason = (seen.reason if seen and seen.reason else state.reason if state else "") or ""
    if record is None and state is None and sighted is not None and not reason:
        reason = f"announced itself ({sighted.agent} of {sighted.owner}); observed, not managed"
    return AgentRow(
        agent_id=agent_id,
        tenant_id=tenant_id,
        name=(record.name if record else None) or (seen.name if seen else None) or agent_id,
        version=version,
        agent_type=record.agent_type if record else None,
        status=state.status if state else seen.status if seen else _announced(sighted, now),
        desired=state.desired if state else None,
        health=seen.health if seen else None,
        reason=reason,
        since=seen.since if seen else None,
        pid=seen.pid if seen else None,
        sidecar_pid=state.pid if state else None,
        proxy_url=(state.proxy_url if state else None) or (seen.proxy_url if seen else None),
        started_at=state.started_at if state else None,
        last_heartbeat=seen.last_heartbeat if seen else sighted.last_seen if sighted else None,
        latency_ms=metrics.latency_ms if metrics else None,
        latency_p95_ms=metrics.latency_p95_ms if metrics else None,
        error_rate=metrics.error_rate if metrics else None,
        requests_per_s=metrics.requests_per_s if metrics else None,
        cpu_percent=metrics.cpu_percent if metrics else None,
        memory_rss_bytes=metrics.memory_rss_bytes if metrics else None,
        spool_bytes=metrics.spool_bytes if metrics else None,
        spool_dropped=metrics.spool_dropped if metrics else None,
        restarts=state.restarts if state else 0,
        gave_up=state.gave_up if state else False,
        healing=state.healing_enabled if state else record.healing.enabled if record else None,
        withheld=state.withheld if state else None,
        maintenance_until=state.maintenance_until if state else None,
        faults=tuple(fault.kind for fault in standing(fleet.faults.get(key), now)),
        incident_reason=incident.reason if incident else None,
        incident_action=incident.action if incident else None,
        time_to_detect_s=incident.time_to_detect_s if incident else None,
        time_to_recover_s=incident.time_to_recover_s if incident else None,
        managed=record is not None,
        environment=record.environment_name if record else None,
        stage=current.stage if current else None,
        trial=history.canary.version if history and history.canary else None,
        resource=state.resource if state else None,
        revision=state.revision if state else None,
        operation=state.operation if state else None,
        logs_url=state.logs_url if state else None,
    )


_WORST_FIRST = {"UNHEALTHY": 0, "STUCK": 0, "RECOVERING": 1, None: 2, "HEALTHY": 3}


def agent_rows(fleet: Fleet, now: datetime, tenant: str | None = None) -> list[AgentRow]:
    """Every agent, the unhealthy first."""
    rows = [agent_row(key, fleet, now) for key in fleet.agents() if tenant is None or key.startswith(f"{tenant}.")]
    return sorted(rows, key=lambda row: (_WORST_FIRST.get(row.health, 2), row.tenant_id, row.agent_id))


@dataclass(frozen=True, slots=True)
class Found:
    """Exactly one agent has this id."""

    key: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """No agent has this id."""

    known: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Several:
    """The id exists in these tenants."""

    tenants: tuple[str, ...]


def find(keys: list[str], agent_id: str, tenant: str | None) -> Found | Unknown | Several:
    """Which agent ``agent_id`` means."""
    matching = [key for key in keys if key.partition(".")[2] == agent_id and (tenant is None or key.startswith(f"{tenant}."))]
    if not matching:
        return Unknown(tuple(key.partition(".")[2] for key in keys if tenant is None or key.startswith(f"{tenant}.")))
    if len(matching) > 1:
        return Several(tuple(key.partition(".")[0] for key in matching))
    return Found(matching[0])
