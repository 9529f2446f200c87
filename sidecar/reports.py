"""The events a sidecar reports about its agent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from pydantic import JsonValue

from schemas.events import Event, EventType
from schemas.ids import derived_id
from schemas.sections import Agent, AgentStatus, Check, Fault, FaultKind, Health, Metrics, Run, Sample, Tenant
from schemas.state import AskedFault
from sidecar.content import treated_event
from sidecar.faults import Ending
from sidecar.frames import Record
from sidecar.probes import Health as Found
from sidecar.process import Ended
from sidecar.progress import Stuck
from sidecar.sampling import Usage
from sidecar.window import Traffic

STOPPED_BY_COMMAND = "stopped by command"
"""The reason of a deliberate stop: readers tell it from a failure by these words."""
RESTARTING = "restarting"
"""An attribute of ``agent.stopped``, true where another instance follows at once: nothing is over yet."""
RESTARTED = "restarted"
"""An attribute of ``agent.started``, true where it takes an earlier instance's place; the reason says why."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose sidecar this is."""

    tenant: Tenant
    agent_id: str
    name: str
    version: str
    agent_type: str
    proxy_url: str

    def agent(
        self,
        status: AgentStatus,
        *,
        pid: int | None = None,
        started_at: datetime | None = None,
        ended: Ended | None = None,
        reason: str | None = None,
    ) -> Agent:
        """The agent section."""
        return Agent(
            name=self.name,
            version=self.version,
            agent_type=self.agent_type,
            status=status,
            pid=pid,
            started_at=started_at,
            exit_code=None if ended is None else ended.exit_code,
            signal=None if ended is None else ended.signal,
            reason=reason,
            proxy_url=self.proxy_url,
        )

    def event(
        self,
        event_type: EventType,
        event_id: UUID,
        at: datetime,
        *,
        agent: Agent | None = None,
        health: Health | None = None,
        metrics: Metrics | None = None,
        fault: Fault | None = None,
        attributes: dict[str, JsonValue] | None = None,
    ) -> Event:
        """An event about this agent."""
        return Event(
            event_version="v1",
            event_id=event_id,
            event_type=event_type,
            occurred_at=at,
            tenant=self.tenant,
            run=Run(agent_id=self.agent_id),
            agent=agent,
            health=health,
            metrics=metrics,
            fault=fault,
            attributes=attributes or {},
        )

    def fault_injected(self, fault: Fault, at: datetime) -> Event:
        """A fault came into force; told twice it is the same event."""
        event_id = derived_id("fault.injected", self.tenant.tenant_id, self.agent_id, fault.fault_id)
        return self.event("fault.injected", event_id, at, fault=_plain(fault), attributes=_more(fault) or None)

    def fault_cleared(self, fault: Fault, ending: Ending, at: datetime) -> Event:
        """A fault is over; told twice it is the same event."""
        event_id = derived_id("fault.cleared", self.tenant.tenant_id, self.agent_id, fault.fault_id)
        return self.event("fault.cleared", event_id, at, fault=_plain(fault), attributes={"because": ending})


def _plain(fault: Fault) -> Fault:
    """What an event's section tells of a fault."""
    if type(fault) is Fault:
        return fault
    return Fault(**{name: getattr(fault, name) for name in Fault.model_fields})


def _more(fault: Fault) -> dict[str, JsonValue]:
    """What it does not: how strong it is, and its seed."""
    if not isinstance(fault, AskedFault):
        return {}
    told: dict[str, JsonValue] = {"intensity": fault.intensity, "seed": fault.seed}
    return {name: value for name, value in told.items() if value is not None}


def health(
    found: Found, checks: Sequence[Check], active: Sequence[FaultKind], interval_s: float, stuck: Stuck | None = None
) -> Health:
    """The health section of a heartbeat; an agent whose probes fail is not called stuck besides."""
    told = stuck if found.status == "HEALTHY" else None
    return Health(
        status=found.status if told is None else "STUCK",
        reason=found.reason if told is None else told.reason,
        checks=tuple(checks),
        active_faults=tuple(dict.fromkeys(active)),
        interval_s=interval_s,
    )


PROBES_FAILING_FOR = "probes_failing_for"
REQUESTS_FAILING_FOR = "requests_failing_for"


NO_PROGRESS_FOR = "no_progress_for"


def lasting(probes_s: float | None, requests_s: float | None, still_s: float | None) -> tuple[Sample, ...]:
    """How long trouble has lasted when a heartbeat tells of it: readers count the time to detect from its beginning."""
    told = ((PROBES_FAILING_FOR, probes_s), (REQUESTS_FAILING_FOR, requests_s), (NO_PROGRESS_FOR, still_s))
    return tuple(Sample(name=name, value=round(seconds, 3), unit="s") for name, seconds in told if seconds is not None)


SPOOL_DROPPED = "spool_dropped"


def given_up(dropped: Mapping[str, int]) -> tuple[Sample, ...]:
    """``spool_dropped.<kind>``: how many events of each kind a full spool has cost so far."""
    return tuple(Sample(name=f"{SPOOL_DROPPED}.{kind}", value=float(count)) for kind, count in sorted(dropped.items()))


def metrics(
    traffic: Traffic,
    in_flight: int,
    usage: Usage,
    spool_bytes: int,
    spool_dropped: Mapping[str, int],
    probes_failing_for_s: float | None = None,
    no_progress_for_s: float | None = None,
) -> Metrics:
    """The metrics section of a heartbeat; what had no requests has no latency."""
    return Metrics(
        latency_ms=_rounded(traffic.latency_ms),
        latency_p95_ms=_rounded(traffic.latency_p95_ms),
        error_rate=traffic.error_rate,
        requests=traffic.requests,
        errors=traffic.errors,
        requests_per_s=traffic.requests_per_s,
        in_flight=in_flight,
        cpu_percent=_rounded(usage.cpu_percent),
        memory_rss_bytes=usage.memory_rss_bytes,
        memory_vms_bytes=usage.memory_vms_bytes,
        process_count=usage.process_count,
        threads=usage.threads,
        system_cpu_percent=_rounded(usage.system_cpu_percent),
        system_memory_percent=usage.system_memory_percent,
        disk_read_bytes=usage.disk_read_bytes,
        disk_write_bytes=usage.disk_write_bytes,
        network_sent_bytes=usage.network_sent_bytes,
        network_received_bytes=usage.network_received_bytes,
        spool_bytes=spool_bytes,
        spool_dropped=sum(spool_dropped.values()),
        samples=(*lasting(probes_failing_for_s, traffic.failing_for_s, no_progress_for_s), *given_up(spool_dropped)),
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def record(event: Event) -> Record:
    """``event`` as the spool keeps it: treated by its tenant's content policy."""
    return Record(event.kind, str(event.event_id), treated_event(event))
