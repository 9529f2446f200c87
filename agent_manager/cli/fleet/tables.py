"""Agents and faults as tables. Pure: now is an argument."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from agent_manager.cli import readable
from agent_manager.cli.fitting import Column
from agent_manager.cli.fleet.rows import AgentRow
from schemas.sections import Fault
from schemas.state import AgentRecord, AskedFault
from schemas.versions import Releases

AGENT_COLUMNS = (
    Column("AGENT"), Column("VERSION", rank=7), Column("STATUS", rank=2), Column("HEALTH"), Column("FOR", right=True, rank=3),
    Column("PID", right=True, rank=6), Column("LATENCY", right=True, rank=1), Column("ERRORS", right=True, rank=1),
    Column("RESTARTS", right=True, rank=5), Column("FAULTS", rank=4), Column("REASON", wrap=True),
)  # fmt: skip


def _since(row: AgentRow, now: datetime) -> str:
    return readable.duration(max(0.0, (now - row.since).total_seconds())) if row.since is not None else readable.NOTHING


def agent_cells(rows: Sequence[AgentRow], now: datetime) -> list[list[str]]:
    """Cells for AGENT_COLUMNS; the tenant is named where there are several."""
    several = len({row.tenant_id for row in rows}) > 1
    return [
        [
            f"{row.tenant_id}/{row.agent_id}" if several else row.agent_id,
            f"{row.version or readable.NOTHING}{' on trial' if row.trial else ''}",
            row.status or readable.NOTHING,
            row.health or readable.NOTHING,
            _since(row, now),
            str(row.pid or readable.NOTHING),
            readable.milliseconds(row.latency_ms),
            readable.share(row.error_rate),
            f"{row.restarts}{' gave up' if row.gave_up else ''}",
            ", ".join(row.faults) or readable.NOTHING,
            row.reason if row.health != "HEALTHY" or row.status != "running" else "",
        ]
        for row in rows
    ]


def _incident(row: AgentRow) -> str:
    if row.incident_reason is None:
        return "none"
    times = f"detected in {readable.duration(row.time_to_detect_s)}"
    recovered = (
        f"recovered in {readable.duration(row.time_to_recover_s)}" if row.time_to_recover_s is not None else "not over yet"
    )
    return "; ".join(part for part in (row.incident_reason, row.incident_action, f"{times}, {recovered}") if part)


def _spool(row: AgentRow) -> str:
    lost = f"; {readable.number(row.spool_dropped, 'event', 'events')} given up because it was full" if row.spool_dropped else ""
    return f"{readable.size(row.spool_bytes)} waiting{lost}"


def agent_facts(row: AgentRow, now: datetime) -> list[tuple[str, str]]:
    """Everything about one agent."""
    return [
        ("agent", f"{row.agent_id} ({row.name}, {row.agent_type or 'type unknown'}, version {row.version or 'unknown'})"),
        ("tenant", row.tenant_id),
        ("status", row.status or readable.NOTHING),
        ("wanted", row.desired or readable.NOTHING),
        ("health", row.health or readable.NOTHING),
        ("for", _since(row, now)),
        ("reason", row.reason or readable.NOTHING),
        ("processes", f"agent {row.pid or readable.NOTHING}, sidecar {row.sidecar_pid or readable.NOTHING}"),
        ("address", row.proxy_url or readable.NOTHING),
        ("started", f"{readable.clock(row.started_at)} ({readable.age(row.started_at, now)})"),
        ("last heartbeat", readable.age(row.last_heartbeat, now)),
        ("latency", f"{readable.milliseconds(row.latency_ms)} (p95 {readable.milliseconds(row.latency_p95_ms)})"),
        ("errors", readable.share(row.error_rate)),
        ("requests/s", readable.count(row.requests_per_s)),
        ("cpu, memory", f"{readable.NOTHING if row.cpu_percent is None else f'{row.cpu_percent:.1f} %'}, {readable.size(row.memory_rss_bytes)}"),
        ("spool", _spool(row)),
        ("restarts", f"{row.restarts}{', gave up' if row.gave_up else ''}"),
        ("self-healing", readable.NOTHING if row.healing is None else "on" if row.healing else "off"),
        ("maintenance", f"until {readable.clock(row.maintenance_until)}" if row.maintenance_until else readable.NOTHING),
        ("not restarted", row.withheld or readable.NOTHING),
        ("faults", ", ".join(row.faults) or "none"),
        ("last incident", _incident(row)),
        *_on_cloud_run(row),
    ]  # fmt: skip


def versions_told(history: Releases | None) -> list[dict[str, Any]]:
    """The versions of an agent for programs, oldest first."""
    if history is None:
        return []
    return [
        {
            "version": one.version, "current": one.version == history.current, "stage": one.stage, "changelog": one.record.changelog,
            "registered_at": one.registered_at.isoformat(), "registered_by": one.registered_by,
            "good_at": one.good_at.isoformat() if one.good_at else None,
        }
        for one in history.releases
    ]  # fmt: skip


def record_facts(record: AgentRecord | None, history: Releases | None, now: datetime) -> list[tuple[str, str]]:
    """What an agent is, as far as it says, and its versions, the newest first."""
    if record is None:
        return [("managed", "no: it is observed only")]
    model = " of ".join(part for part in (record.model_type, record.provider) if part)
    facts = [
        ("description", record.description), ("model", model), ("capabilities", ", ".join(record.capabilities)),
        ("needs", ", ".join(record.dependencies)), ("tags", ", ".join(record.tags)), ("owner", record.owner or ""),
        ("environment", record.environment_name), ("updated", f"{readable.age(record.updated_at, now)} by {record.updated_by}"),
    ]  # fmt: skip
    told = [(name, value) for name, value in facts if value]
    for one in reversed(history.releases if history else ()):
        marks = [one.stage, "current" if history and one.version == history.current else "", "good" if one.good_at else ""]
        if history is not None and history.canary is not None and history.canary.version == one.version:
            marks.append(f"on trial, {readable.age(history.canary.until, now)}")
        what = f"{', '.join(mark for mark in marks if mark)}; {readable.age(one.registered_at, now)} by {one.registered_by}"
        told.append((f"version {one.version}", f"{what}{f': {one.record.changelog}' if one.record.changelog else ''}"))
    return told


def _on_cloud_run(row: AgentRow) -> list[tuple[str, str]]:
    if row.resource is None:
        return []
    return [
        ("cloud run", row.resource),
        ("revision", row.revision or readable.NOTHING),
        ("under way", row.operation or "nothing"),
        ("logs", row.logs_url or readable.NOTHING),
    ]


FAULT_COLUMNS = (
    Column("AGENT"),
    Column("FAULT"),
    Column("SETTINGS"),
    Column("ENDS"),
    Column("IN FORCE", rank=1),
    Column("BY", rank=2),
    Column("REASON", wrap=True, rank=3),
)


def fault_settings(fault: Fault) -> str:
    """``2500 ms ± 100 ms``, ``50 % answer 503``."""
    said = []
    if fault.latency_ms is not None:
        said.append(f"{fault.latency_ms:g} ms" + (f" ± {fault.jitter_ms:g} ms" if fault.jitter_ms else ""))
    if fault.rate is not None:
        said.append(f"{readable.share(fault.rate)} of requests")
    if fault.status_code is not None:
        said.append(f"answer {fault.status_code}")
    if isinstance(fault, AskedFault):
        said += [f"intensity {fault.intensity:g}"] if fault.intensity is not None else []
        said += [f"seed {fault.seed}"] if fault.seed is not None else []
        said += [f"begins at {fault.begins_at:%H:%M:%S} UTC"] if fault.begins_at is not None else []
    return ", ".join(said) or readable.NOTHING


def fault_cells(agent: str, fault: Fault, in_force: bool, now: datetime) -> list[str]:
    """Cells for FAULT_COLUMNS. ``in_force``: the sidecar says that it applies it."""
    return [
        agent, fault.kind, fault_settings(fault), readable.age(fault.until, now), "yes" if in_force else "not yet",
        fault.injected_by or readable.NOTHING, fault.reason or "",
    ]  # fmt: skip
