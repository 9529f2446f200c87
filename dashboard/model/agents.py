"""One agent as its card shows it."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from dashboard.model.moments import milliseconds
from schemas.sections import Fault
from schemas.state import AgentRecord, AgentState, FaultSet, Incident, Observation

UNKNOWN_VERSION: Final = "unknown"
"""What a sidecar says where nobody told it the agent's version."""

HISTORY: Final = 48
"""Points of the latency line on a card."""

Tone = Literal["good", "bad", "warn", "idle", "unknown"]

_RANKS: Final[dict[str, int]] = {
    "UNHEALTHY": 0,
    "STUCK": 0,
    "RECOVERING": 2,
    "ERROR": 1,
    "UNKNOWN": 3,
    "STARTING": 3,
    "HEALTHY": 5,
    "STOPPED": 6,
}
_TONES: Final[dict[str, Tone]] = {
    "UNHEALTHY": "bad",
    "STUCK": "bad",
    "ERROR": "bad",
    "RECOVERING": "warn",
    "STARTING": "warn",
    "HEALTHY": "good",
    "STOPPED": "idle",
    "UNKNOWN": "unknown",
}


@dataclass(slots=True)
class AgentParts:
    """Everything known of one agent, each part by its own writer."""

    tenant: str
    agent_id: str
    record: AgentRecord | None = None
    state: AgentState | None = None
    observation: Observation | None = None
    faults: FaultSet | None = None
    usage: dict[str, Any] | None = None
    """Its row of the ``fleet`` query: the last 24 hours."""
    busy: str | None = None
    """The command now under way, as a person would say it."""
    history: deque[int] = field(default_factory=lambda: deque(maxlen=HISTORY))

    @property
    def key(self) -> str:
        """``<tenant>.<agent_id>``."""
        return f"{self.tenant}.{self.agent_id}"

    @property
    def known(self) -> bool:
        """Whether any bucket still holds the agent; faults alone make none."""
        return self.record is not None or self.state is not None or self.observation is not None

    def observe(self, observation: Observation | None) -> None:
        """Takes a new observation and remembers its latency."""
        newer = self.observation is None or (observation is not None and observation.updated_at > self.observation.updated_at)
        self.observation = observation
        if observation is not None and newer and observation.metrics.latency_ms is not None:
            self.history.append(round(observation.metrics.latency_ms))


def lifecycle(parts: AgentParts) -> str:
    """The agent's status: the manager's word, unless it says running and the observation knows worse."""
    state, observation = parts.state, parts.observation
    if state is not None and (state.desired == "stopped" or state.status != "running"):
        return state.status
    if observation is not None:
        return observation.status
    return state.status if state is not None else "inactive"


def headline(parts: AgentParts) -> str:
    """The one word of the card: health, except where being stopped, starting or broken says more."""
    status = lifecycle(parts)
    observation = parts.observation
    wanted = parts.state.desired if parts.state is not None else "running"
    if status == "stopped" and (wanted == "stopped" or observation is None or observation.health != "UNHEALTHY"):
        return "STOPPED"
    if observation is not None:
        if status == "error" and observation.health == "HEALTHY":
            return "ERROR"
        return observation.health
    if status == "error":
        return "ERROR"
    return "STARTING" if status == "starting" else "UNKNOWN"


def active_faults(parts: AgentParts, now_ms: int) -> list[Fault]:
    """The faults asked of the agent whose deadline has not passed."""
    if parts.faults is None:
        return []
    return [fault for fault in parts.faults.faults if (milliseconds(fault.until) or 0) > now_ms]


_OF_MODELS: Final = {
    "model_rate_limit": "model: 429",
    "model_error": "model: errors",
    "model_slow": "model: slow",
    "model_stall": "model: stalls",
    "model_truncate": "model: breaks off",
    "model_malformed": "model: no JSON",
}


_PLAIN: Final = {
    "blackhole": "no answers",
    "throttle": "slow bodies",
    "reset": "connections reset",
    "truncate": "answers break off",
}


def fault_label(fault: Fault) -> str:
    """``+2,500 ms``, ``100 % errors``: what the fault does."""
    if fault.kind == "latency":
        jitter = f" ± {fault.jitter_ms:,.0f}" if fault.jitter_ms else ""
        return f"+{fault.latency_ms or 0:,.0f}{jitter} ms"
    if fault.kind == "error":
        rate = 1.0 if fault.rate is None else fault.rate
        return f"{rate * 100:g} % errors"
    if fault.kind.startswith("model_"):
        share = "" if fault.rate is None else f", {fault.rate * 100:g} %"
        return f"{_OF_MODELS[fault.kind]}{share}"
    return _PLAIN.get(fault.kind, fault.kind.replace("_", " "))


def _faults(parts: AgentParts, now_ms: int) -> list[dict[str, Any]]:
    told = set(parts.observation.active_faults) if parts.observation is not None else set()
    asked = active_faults(parts, now_ms)
    rows = [
        {"kind": fault.kind, "label": fault_label(fault), "until": milliseconds(fault.until), "applied": fault.kind in told}
        for fault in asked
    ]
    kinds = {fault.kind for fault in asked}
    return rows + [{"kind": kind, "label": kind, "until": None, "applied": True} for kind in sorted(told - kinds)]


def _actions(parts: AgentParts, head: str, *, faulty: bool) -> dict[str, bool]:
    """Which buttons may be pressed."""
    state = parts.state
    if state is None:
        return dict.fromkeys(("inject", "clear", "recover", "start", "stop", "restart", "healing"), False)
    running = state.desired == "running"
    status = lifecycle(parts)
    return {
        "inject": running and status not in {"stopped", "inactive"},
        "clear": faulty,
        "recover": running and (head != "HEALTHY" or faulty or state.gave_up),
        "start": not running or status in {"stopped", "error", "inactive"},
        "stop": running or status in {"running", "starting"},
        "restart": running,
        "healing": True,
    }


def _incident(incident: Incident | None) -> dict[str, Any] | None:
    if incident is None:
        return None
    return {
        "reason": incident.reason,
        "began": milliseconds(incident.began_at),
        "detected": milliseconds(incident.detected_at),
        "recovered": milliseconds(incident.recovered_at),
        "action": incident.action,
        "ttd": incident.time_to_detect_s,
        "ttr": incident.time_to_recover_s,
    }


def card(parts: AgentParts, now_ms: int) -> dict[str, Any]:
    """All that the agent's card shows."""
    record, state, observation, usage = parts.record, parts.state, parts.observation, parts.usage or {}
    metrics = observation.metrics if observation is not None else None
    head = headline(parts)
    faults = _faults(parts, now_ms)
    gave_up = state is not None and state.gave_up
    rank = _RANKS[head]
    if gave_up:
        rank = min(rank, 0)
    elif head == "HEALTHY" and faults:
        rank = 4
    reason = ""
    if observation is not None and head in {"UNHEALTHY", "STUCK", "RECOVERING"}:
        reason = observation.reason
    elif state is not None and head != "HEALTHY":
        reason = state.reason
    if state is not None and state.withheld and head not in {"HEALTHY", "STOPPED"}:
        reason = f"{reason}; not restarted: {state.withheld}" if reason else state.withheld
    name = (record.name if record else None) or (observation.name if observation else None) or parts.agent_id
    told = (part.version for part in (observation, state, record) if part is not None)
    version = next((one for one in told if one and one != UNKNOWN_VERSION), None)
    return {
        "key": parts.key,
        "id": parts.agent_id,
        "tenant": parts.tenant,
        "name": name,
        "version": version,
        "kind": record.agent_type if record else None,
        "about": record.description if record else "",
        "status": lifecycle(parts),
        "health": head,
        "tone": "bad" if gave_up and head != "STOPPED" else _TONES[head],
        "rank": rank,
        "reason": reason,
        "since": milliseconds(observation.since) if observation else None,
        "beat": milliseconds(observation.last_heartbeat) if observation else None,
        "interval": observation.heartbeat_interval_s if observation else None,
        "latency": metrics.latency_ms if metrics else None,
        "p95": metrics.latency_p95_ms if metrics else None,
        "error_rate": metrics.error_rate if metrics else None,
        "rps": metrics.requests_per_s if metrics else None,
        "cpu": metrics.cpu_percent if metrics else None,
        "memory": metrics.memory_rss_bytes if metrics else None,
        "dropped": metrics.spool_dropped if metrics else None,
        "pid": observation.pid if observation else None,
        "history": list(parts.history),
        "cost": usage.get("cost_usd_24h"),
        "tokens": usage.get("tokens_24h"),
        "runs": usage.get("runs_24h"),
        "faults": faults,
        "failing": [
            {"name": check.name, "error": check.error or "failing"}
            for check in (observation.checks if observation else ())
            if not check.ok
        ],
        "incident": _incident(state.incident if state else None),
        "healing": state.healing_enabled if state else None,
        "gave_up": gave_up,
        "restarts": state.restarts if state else 0,
        "managed": state is not None,
        "actions": _actions(parts, head, faulty=bool(faults)),
        "busy": parts.busy,
    }
