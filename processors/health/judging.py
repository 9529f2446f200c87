"""What one event, or one silence, says about one agent. Pure: the moment is an argument."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from processors.health.state import AgentHealth, event_time
from schemas.events import AcceptedEvent
from schemas.sections import AgentStatus, HealthStatus, Metrics

STOPPED_BY_COMMAND: Final = "stopped by command"
"""The reason a sidecar gives when it was told to stop its agent."""
RESTARTING: Final = "restarting"
"""An attribute of ``agent.stopped``: another instance follows at once."""
RESTARTED: Final = "restarted"
"""An attribute of ``agent.started``: it follows another."""

_LONGEST_REASON: Final = 500

PROBES_FAILING_FOR: Final = "probes_failing_for"
REQUESTS_FAILING_FOR: Final = "requests_failing_for"
NO_PROGRESS_FOR: Final = "no_progress_for"
"""Samples of a heartbeat: how many seconds the trouble it tells of has lasted, as its sidecar knows."""
_LONGEST_TROUBLE_S: Final = 3600.0
"""More than that no heartbeat can have left untold."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Where trouble begins and ends."""

    error_rate: float = 0.5
    latency_ms: float = 10_000.0
    decisive_requests: int = 3
    bad_beats: int = 2
    good_beats: int = 2
    unknown_beats: int = 3
    missed_beats: int = 3
    starting_grace: timedelta = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Outdated:
    """The event is older than what is known: nothing of what it tells changes anything."""

    reason: str
    alive: AgentHealth | None = None
    """The agent with this sign of life, where it is one: a clock that was set back is not silence."""


@dataclass(frozen=True, slots=True)
class Noted:
    """Numbers may be new; health and status are as before."""

    agent: AgentHealth


@dataclass(frozen=True, slots=True)
class Changed:
    """Health or status is another now; everybody is to know."""

    agent: AgentHealth
    previous_health: HealthStatus | None
    """None when the agent was never seen before."""
    previous_status: AgentStatus | None
    at: datetime
    """When it happened, in the events' own time."""
    cause: str
    """What it follows from: an event's id, or the silence after one."""


Verdict = Outdated | Noted | Changed


@dataclass(frozen=True, slots=True)
class _Good:
    pass


@dataclass(frozen=True, slots=True)
class _Unknown:
    """No new evidence: the last judgement stands."""


@dataclass(frozen=True, slots=True)
class _Stuck:
    """It lives, and gets nowhere, says its sidecar."""

    reason: str
    since: datetime


@dataclass(frozen=True, slots=True)
class _Bad:
    reason: str
    decisive: bool
    """Enough by itself."""
    since: datetime
    """When it began: as its sidecar knows, else the last good sign of life."""
    starting: bool = False
    """Only because it is still coming up, says its sidecar, whose own patience bounds that."""


def judge(agent: AgentHealth, event: AcceptedEvent, limits: Limits) -> Verdict:
    """What ``event`` makes of ``agent``. Events older than the newest that counted are outdated."""
    at = event_time(event)
    if agent.newest is not None and at < agent.newest:
        alive = None
        if event.event_type == "agent.heartbeat":
            alive = agent.model_copy(update={"arrived_at": max(agent.arrived_at, event.ingest.received_at)})
        reason = f"{event.event_type} of {at.isoformat()} is older than what is known of {agent.newest.isoformat()}"
        return Outdated(reason, alive)
    cause = str(event.event_id)
    match event.event_type:
        case "agent.heartbeat":
            return _heartbeat(agent, event, at, limits)
        case "agent.started":
            return _conclude(agent, _started(agent, event, at), at, cause)
        case "agent.stopped":
            return _conclude(agent, _stopped(agent, event, at), at, cause)
        case "fault.injected" | "fault.cleared":
            assert event.fault is not None
            others = tuple(kind for kind in agent.active_faults if kind != event.fault.kind)
            faults = (*others, event.fault.kind) if event.event_type == "fault.injected" else others
            return Noted(agent.model_copy(update={"active_faults": faults, "updated_at": event.ingest.received_at}))
        case _:
            return Outdated(f"{event.event_type} says nothing about health")


def absence_due(agent: AgentHealth, limits: Limits) -> datetime | None:
    """After which moment its silence is too long, were it listened to all the while; None: it need not speak."""
    if agent.status in {"stopped", "inactive"}:
        return None
    # A fifth of an interval, at most a second, for the way: the third heartbeat may be on it.
    return agent.arrived_at + timedelta(seconds=limits.missed_beats * agent.interval_s + min(1.0, agent.interval_s / 5))


def absence(agent: AgentHealth, now: datetime, attentive_since: datetime, limits: Limits) -> Changed | None:
    """The verdict on an agent's silence at ``now``, if it is due.

    Silence counts from the last sign of life or from when we began to listen, whichever is later.
    """
    due = absence_due(agent, limits)
    silent_since = max(agent.arrived_at, attentive_since)
    if due is None or now - silent_since <= due - agent.arrived_at:
        return None
    seen = agent.last_heartbeat or agent.newest or agent.arrived_at
    changes: dict[str, Any] = {
        "status": "inactive",
        "reason": f"no heartbeat for {(now - silent_since).total_seconds():.1f} s: {limits.missed_beats} of {agent.interval_s:g} s missed",
        "good_beats": 0,
        "updated_at": now,
    }
    if agent.health != "UNHEALTHY":
        changes |= {"health": "UNHEALTHY", "since": now, "began_at": agent.began_at or seen}
    concluded = _conclude(agent, agent.model_copy(update=changes), now, f"silence after {agent.last_event_id}")
    assert isinstance(concluded, Changed)
    return concluded


def _conclude(before: AgentHealth, after: AgentHealth, at: datetime, cause: str) -> Noted | Changed:
    if before.newest is None:
        return Changed(after, None, None, at, cause)
    if (before.health, before.status) == (after.health, after.status):
        return Noted(after)
    # A spool that drains after an absence tells of earlier moments: the verdict still changes only now.
    at = max(at, before.since)
    if after.health != before.health:
        after = after.model_copy(update={"since": at})
    return Changed(after, before.health, before.status, at, cause)


def _started(agent: AgentHealth, event: AcceptedEvent, at: datetime) -> AgentHealth:
    told = event.agent
    why = told.reason if told and event.attributes.get(RESTARTED) is True else None
    changes = _signs(event, at) | {
        "status": "starting",
        "reason": _reason(why, "not verified yet") if why else "started, not verified yet",
        "restarted": why,
        "started_at": at,
        "good_beats": 0,
        "bad_beats": 0,
        "unknown_beats": 0,
        "suspect_since": None,
        "traffic_trouble": None,
        "checks": (),
        "pid": told.pid if told else None,
    }
    if agent.health != "RECOVERING":
        changes |= {"health": "RECOVERING", "since": at}
    return agent.model_copy(update=changes)


def _stopped(agent: AgentHealth, event: AcceptedEvent, at: datetime) -> AgentHealth:
    told = event.agent
    reason = told.reason if told else None
    changes = _signs(event, at) | {"pid": None, "good_beats": 0, "bad_beats": 0, "suspect_since": None}
    if event.attributes.get(RESTARTING) is True:
        # Nothing is over: what was wrong is wrong until the next instance proves otherwise, and its silence is judged.
        changes |= {"status": "starting", "reason": (reason or "restarting")[:_LONGEST_REASON], "restarted": reason}
        return agent.model_copy(update=changes)
    if reason == STOPPED_BY_COMMAND or (told is not None and told.exit_code == 0 and told.signal is None):
        changes |= {"status": "stopped", "reason": (reason or "exited with code 0")[:_LONGEST_REASON]}
        return agent.model_copy(update=changes)
    how = "ended"
    if told is not None and told.signal is not None:
        how = f"was killed by {told.signal}"
    elif told is not None and told.exit_code is not None:
        how = f"exited with code {told.exit_code}"
    changes |= {"status": "error", "reason": (f"process {how}" + (f": {reason}" if reason else ""))[:_LONGEST_REASON]}
    if agent.health != "UNHEALTHY":
        changes |= {"health": "UNHEALTHY", "since": at, "began_at": agent.began_at or at}
    return agent.model_copy(update=changes)


def _reason(why: str | None, standing: str) -> str:
    """Where it stands, after why it was started again."""
    return f"{why[: _LONGEST_REASON - 100]}; {standing}" if why else standing


def _signs(event: AcceptedEvent, at: datetime) -> dict[str, Any]:
    """What every event of an agent's life tells."""
    told = event.agent
    signs: dict[str, Any] = {
        "newest": at,
        "arrived_at": event.ingest.received_at,
        "updated_at": event.ingest.received_at,
        "last_event_id": str(event.event_id),
        "workspace_id": event.tenant.workspace_id,
        "project_id": event.tenant.project_id,
    }
    if told is not None:
        for name in ("name", "version", "proxy_url"):
            value = getattr(told, name)
            if value is not None:
                signs[name] = value
    return signs


def _heartbeat(agent: AgentHealth, event: AcceptedEvent, at: datetime, limits: Limits) -> Noted | Changed:
    health, told, metrics = event.health, event.agent, event.metrics
    assert health is not None
    changes = _signs(event, at) | {
        "last_heartbeat": at,
        "metrics": metrics or agent.metrics,
        "checks": health.checks,
        "active_faults": tuple(health.active_faults),
    }
    if health.interval_s is not None:
        changes["interval_s"] = health.interval_s
    if told is not None:
        changes["pid"] = told.pid
    trouble, decisive, unknown = _traffic(agent, metrics, limits)
    changes |= {"traffic_trouble": trouble, "unknown_beats": unknown}
    found: _Good | _Unknown | _Stuck | _Bad
    if health.status == "UNHEALTHY":
        since = _since(agent, metrics, PROBES_FAILING_FOR, at)
        found = _Bad(_reported(event), decisive=True, since=since, starting=told is not None and told.status == "starting")
    elif told is not None and told.status in {"stopped", "error"}:
        found = _Bad(f"its sidecar reports it {told.status}", decisive=True, since=_since(agent, None, "", at))
    elif trouble is not None:
        since = _since(agent, metrics, REQUESTS_FAILING_FOR, at)
        found = _Unknown() if unknown else _Bad(trouble, decisive=decisive, since=since)
    elif health.status == "STUCK":
        found = _Stuck(_reported(event), _since(agent, metrics, NO_PROGRESS_FOR, at))
    else:
        found = _Good()
    if isinstance(found, _Good):
        changes |= _good(agent, at, limits)
    elif isinstance(found, _Stuck):
        changes |= _stuck(agent, found, at)
    elif isinstance(found, _Bad) and agent.status != "stopped":
        # One stopped on purpose is not in trouble because nothing answers: that is what was asked for.
        changes |= _bad(agent, found, at, limits)
    return _conclude(agent, agent.model_copy(update=changes), at, str(event.event_id))


def _since(agent: AgentHealth, metrics: Metrics | None, lasting: str, at: datetime) -> datetime:
    """When the trouble that a heartbeat at ``at`` tells of began; never before the agent did."""
    told = [sample.value for sample in metrics.samples if sample.name == lasting and sample.unit == "s"] if metrics else []
    if told:
        since = at - timedelta(seconds=min(max(0.0, told[0]), _LONGEST_TROUBLE_S))
    elif agent.good_beats and agent.last_heartbeat is not None:
        since = agent.last_heartbeat
    else:
        since = at
    return since if agent.started_at is None else max(since, min(agent.started_at, at))


def _reported(event: AcceptedEvent) -> str:
    assert event.health is not None
    failing = [check for check in event.health.checks if not check.ok]
    told = [f"probe {check.name} fails" + (f" ({check.error})" if check.error else "") for check in failing]
    return (event.health.reason or "; ".join(told) or "reported unhealthy")[:_LONGEST_REASON]


def _traffic(agent: AgentHealth, metrics: Metrics | None, limits: Limits) -> tuple[str | None, bool, int]:
    """What is wrong with the traffic, whether this heartbeat alone proves it, and for how many it is unknown."""
    if metrics is None or metrics.requests == 0 or (metrics.error_rate is None and metrics.latency_ms is None):
        unknown = agent.unknown_beats + 1
        if unknown > limits.unknown_beats:
            return None, False, unknown
        return agent.traffic_trouble, False, unknown
    decisive = (metrics.requests or 0) >= limits.decisive_requests
    if metrics.error_rate is not None and metrics.error_rate > limits.error_rate:
        return f"{metrics.error_rate:.0%} of requests fail (limit {limits.error_rate:.0%})", decisive, 0
    if metrics.latency_ms is not None and metrics.latency_ms > limits.latency_ms:
        return f"requests take {metrics.latency_ms:,.0f} ms (limit {limits.latency_ms:,.0f} ms)", decisive, 0
    return None, False, 0


def _good(agent: AgentHealth, at: datetime, limits: Limits) -> dict[str, Any]:
    beats = agent.good_beats + 1
    changes: dict[str, Any] = {"status": "running", "good_beats": beats, "bad_beats": 0, "suspect_since": None}
    if agent.health == "HEALTHY":
        return changes | {"reason": ""}
    # A clean start is verified by its first good heartbeat; after trouble it takes several.
    needed = limits.good_beats if agent.began_at is not None else 1
    if beats >= needed:
        return changes | {"health": "HEALTHY", "since": at, "began_at": None, "reason": "", "restarted": None}
    reason = _reason(agent.restarted, f"{beats} of {needed} good heartbeats")
    if agent.health == "UNHEALTHY":
        return changes | {"health": "RECOVERING", "since": at, "reason": reason}
    return changes | {"reason": reason}


def _stuck(agent: AgentHealth, found: _Stuck, at: datetime) -> dict[str, Any]:
    changes: dict[str, Any] = {
        "status": "running",
        "reason": found.reason,
        "good_beats": 0,
        "bad_beats": 0,
        "suspect_since": None,
    }
    if agent.health == "STUCK":
        return changes
    return changes | {"health": "STUCK", "since": at, "began_at": agent.began_at or found.since}


def _bad(agent: AgentHealth, found: _Bad, at: datetime, limits: Limits) -> dict[str, Any]:
    if (
        agent.status == "starting"
        and agent.started_at is not None
        and (found.starting or at - agent.started_at < limits.starting_grace)
    ):
        return {"reason": f"starting: {found.reason.removeprefix('starting: ')}"[:_LONGEST_REASON], "good_beats": 0}
    beats = agent.bad_beats + 1
    changes: dict[str, Any] = {"good_beats": 0, "bad_beats": beats}
    if agent.status == "error":
        # Its process ended, and that stays the reason until something lives again.
        return changes
    if agent.health == "UNHEALTHY":
        return changes | {"status": "running", "reason": found.reason}
    suspect_since = agent.suspect_since or found.since
    if not found.decisive and beats < limits.bad_beats:
        return changes | {"status": "running", "suspect_since": suspect_since}
    return changes | {
        "status": "running",
        "health": "UNHEALTHY",
        "since": at,
        "began_at": agent.began_at or suspect_since,
        "suspect_since": None,
        "reason": found.reason,
    }
