"""What was seen, judged: all right, worth knowing, or wrong, and what to do about it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from agent_manager.cli import readable
from agent_manager.cli.fleet.rows import AgentRow

Level = Literal["ok", "warning", "problem"]

OLDEST_SERVER: Final = (2, 12)
"""Atomic batches, on which nothing-lost rests, came with it."""
_LAG_WARNING: Final = 1_000
_LAG_PROBLEM: Final = 100_000
_STALE_S: Final = 30.0
_FULL_WARNING: Final = 0.8
_FULL_PROBLEM: Final = 0.95
_CLOCK_WARNING_S: Final = 2.0
_CLOCK_PROBLEM_S: Final = 60.0
_DISK_WARNING: Final = 5 * 1024**3
_DISK_PROBLEM: Final = 1024**3


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at."""

    part: str
    level: Level
    message: str
    advice: str = ""


def server(url: str, version: str, jetstream: bool, rtt_ms: float) -> Finding:
    """The NATS server itself."""
    numbers = tuple(int(part) for part in version.partition("-")[0].split(".")[:2] if part.isdigit())
    if not jetstream:
        return Finding(
            "nats", "problem", f"{url} has no JetStream", "Start nats-server with -js, or enable JetStream for this account"
        )
    if numbers < OLDEST_SERVER:
        return Finding(
            "nats",
            "problem",
            f"{url} is version {version}; atomic batches need {'.'.join(map(str, OLDEST_SERVER))}",
            "Update nats-server, or let `agentops up` start its own",
        )
    return Finding("nats", "ok", f"{url} answers in {readable.milliseconds(rtt_ms)}, version {version}")


def drifts(found: list[str]) -> Finding:
    """Server against topology."""
    if found:
        shown = "; ".join(found[:5]) + (f"; and {len(found) - 5} more" if len(found) > 5 else "")
        return Finding("streams", "problem", f"the server differs from the topology: {shown}", "Run `agentops streams apply`")
    return Finding("streams", "ok", "the server agrees with the topology")


def fullness(stream: str, used: int, limit: int) -> Finding | None:
    """A stream that fills up: full ones refuse."""
    share = used / limit
    if share < _FULL_WARNING:
        return None
    level: Level = "problem" if share >= _FULL_PROBLEM else "warning"
    return Finding(
        "streams",
        level,
        f"{stream} is {readable.share(share)} full ({readable.size(used)} of {readable.size(limit)}); when full it refuses",
        "See that its readers run (below), or give it more room in streams/topology.py",
    )


def lag(part: str, what: str, behind: int, waiting_s: float | None, advice: str) -> Finding:
    """How far a reader is behind; ``waiting_s`` is the age of the oldest thing it has not done."""
    told = f"{what}: {readable.count(behind)} behind" if behind else f"{what}: nothing waits"
    if waiting_s is not None and behind:
        told += f", the oldest for {readable.duration(waiting_s)}"
    stale = waiting_s is not None and waiting_s > _STALE_S and behind > 0
    if behind > _LAG_PROBLEM or stale:
        return Finding(part, "problem", told, advice)
    if behind > _LAG_WARNING:
        return Finding(part, "warning", told, advice)
    return Finding(part, "ok", told)


def door(service: str, alive: bool | None, waiting_for: Mapping[str, str] | None, log: str) -> Finding:
    """One service's health door; ``waiting_for`` is None when it does not answer."""
    if alive is False:
        return Finding(service, "problem", "is not running; `agentops up` starts it again after a rest", f"Read {log}")
    if waiting_for is None:
        return Finding(service, "problem", "does not answer on its health door", f"Read {log}")
    if waiting_for:
        return Finding(
            service, "problem", "not ready: " + "; ".join(f"{part}: {why}" for part, why in waiting_for.items()), f"Read {log}"
        )
    return Finding(service, "ok", "ready")


def warehouse(error: str | None, advice: str, elapsed_ms: float | None) -> Finding:
    """Whether queries are answered."""
    if error is not None:
        return Finding("warehouse", "problem", error, advice)
    return Finding("warehouse", "ok", f"answers queries ({readable.milliseconds(elapsed_ms)})")


def agent(row: AgentRow, now: datetime) -> Finding:
    """One agent."""
    part = f"agent {row.agent_id}"
    since = f" for {readable.duration((now - row.since).total_seconds())}" if row.since is not None else ""
    why = f": {row.reason}" if row.reason else ""
    if row.desired == "stopped" or (row.status == "stopped" and row.desired is None):
        return Finding(part, "ok", "stopped, as wanted")
    if row.gave_up:
        return Finding(
            part,
            "problem",
            f"restarted too often; healing gave up{why}",
            f"Read `agentops agents logs {row.agent_id}`, then `agentops agents recover {row.agent_id}`",
        )
    if row.health == "UNHEALTHY":
        if row.withheld and row.healing:
            return Finding(part, "problem", f"UNHEALTHY{since}{why}", f"Healing holds back: {row.withheld}")
        advice = "Healing is under way" if row.healing else f"Healing is off: `agentops agents recover {row.agent_id}`"
        return Finding(part, "problem", f"UNHEALTHY{since}{why}", advice)
    if row.health == "STUCK":
        return Finding(
            part,
            "problem",
            f"STUCK{since}{why}",
            f"See `agentops query runs --agent {row.agent_id}`, or `agentops agents restart {row.agent_id}`",
        )
    if row.health is None:
        return Finding(
            part,
            "warning",
            f"{row.status or 'known'}, but nothing was heard of its health yet",
            "Is the health processor running, and the agent's sidecar?",
        )
    if row.health == "RECOVERING" or row.status == "starting":
        return Finding(part, "warning", f"{row.status or ''} {row.health}{since}".strip(), "Look again in a few seconds")
    if row.status in {"error", "inactive", "stopped"}:
        return Finding(
            part,
            "problem",
            f"{row.status}{why}",
            f"Read `agentops agents logs {row.agent_id}`, then `agentops agents restart {row.agent_id}`",
        )
    if row.faults:
        return Finding(
            part,
            "warning",
            f"{row.health}, with injected faults: {', '.join(row.faults)}",
            f"`agentops faults clear {row.agent_id}` ends them",
        )
    return Finding(part, "ok", f"{row.health}{since}")


def disk(directory: str, free: int) -> Finding:
    """Room where the data lies."""
    told = f"{readable.size(free)} free at {directory}"
    if free < _DISK_PROBLEM:
        return Finding("disk", "problem", told, "Make room, or move the data directory: streams refuse when the disk is full")
    if free < _DISK_WARNING:
        return Finding("disk", "warning", told, "Make room soon")
    return Finding("disk", "ok", told)


def clock(ahead_s: float) -> Finding:
    """Our clock against the NATS server's."""
    told = (
        f"this machine's clock is {readable.duration(abs(ahead_s))} {'ahead of' if ahead_s > 0 else 'behind'} the NATS server's"
    )
    if abs(ahead_s) >= _CLOCK_PROBLEM_S:
        return Finding("clock", "problem", told, "Synchronise both (NTP): commands expire and events look late")
    if abs(ahead_s) >= _CLOCK_WARNING_S:
        return Finding("clock", "warning", told, "Synchronise both (NTP)")
    return Finding("clock", "ok", "agrees with the NATS server's")


def dead_letters(count: int) -> Finding:
    """Refused events are not our failure, but somebody's."""
    if count:
        return Finding(
            "dead letters", "warning", f"{readable.count(count)} kept", "`agentops dead list` says what was wrong with them"
        )
    return Finding("dead letters", "ok", "none")


def alerts(firing: int) -> Finding:
    """Alerts nobody has seen."""
    if firing:
        return Finding("alerts", "warning", f"{firing} firing", "`agentops alerts list`")
    return Finding("alerts", "ok", "none firing")


def all_right(findings: list[Finding]) -> bool:
    """Whether nothing is wrong; warnings do not count."""
    return all(finding.level != "problem" for finding in findings)
