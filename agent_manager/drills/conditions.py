"""Whether a condition holds of what was seen. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from agent_manager.drills.plan import Condition
from schemas.alerts import AlertChange
from schemas.state import AgentState, Observation


@dataclass(frozen=True, slots=True)
class Sight:
    """What is known of the targets now."""

    targets: Sequence[str]
    observations: Mapping[str, Observation]
    states: Mapping[str, AgentState]
    alerts: Sequence[AlertChange] = ()
    """Every change since the drill began."""
    injected_at: datetime | None = None
    """The last injection."""


@dataclass(frozen=True, slots=True)
class Holds:
    """It holds of every target."""


@dataclass(frozen=True, slots=True)
class Not:
    """It does not, of these; why."""

    reason: str


def met(condition: Condition, sight: Sight) -> Holds | Not:
    """Whether ``condition`` holds of every target now."""
    reasons = [f"{key.partition('.')[2]}: {why}" for key in sight.targets if (why := _missing(condition, key, sight))]
    return Not("; ".join(reasons)) if reasons else Holds()


def _missing(wanted: Condition, key: str, sight: Sight) -> str:
    """What is missing of one target; empty where nothing is."""
    seen, state = sight.observations.get(key), sight.states.get(key)
    if wanted.alert is not None:
        return "" if _fired(wanted.alert, key, sight) else f"no alert {wanted.alert} fired"
    if wanted.healed:
        return _not_healed(seen, state, sight.injected_at)
    if seen is None:
        return "it was not heard of"
    if (health := wanted.health or wanted.stays) is not None:
        return "" if seen.health == health else f"it is {seen.health}"
    if wanted.status is not None:
        return "" if seen.status == wanted.status else f"it is {seen.status}"
    if wanted.fault is not None:
        return "" if wanted.fault in seen.active_faults else "its sidecar does not say so"
    return f"{', '.join(seen.active_faults)} in force" if seen.active_faults else ""


def _fired(rule: str, key: str, sight: Sight) -> bool:
    tenant, _, agent = key.partition(".")
    return any(
        one.rule == rule and one.state == "firing" and one.tenant_id == tenant and one.agent_id == agent
        # The same alert may have begun for an earlier trouble.
        and (sight.injected_at is None or one.at >= sight.injected_at)
        for one in sight.alerts
    )  # fmt: skip


def _not_healed(seen: Observation | None, state: AgentState | None, injected_at: datetime | None) -> str:
    incident = state.incident if state is not None else None
    if incident is None or (injected_at is not None and incident.detected_at < injected_at):
        return "no trouble was noticed"
    if incident.recovered_at is None:
        return f"not over yet: {incident.reason}"
    return "" if seen is not None and seen.health == "HEALTHY" else "it is not HEALTHY"


def unhealthy_share(observations: Mapping[str, Observation], targets: Sequence[str]) -> float:
    """Of the agents that are no targets."""
    others = [one for key, one in observations.items() if key not in targets]
    return sum(one.health == "UNHEALTHY" for one in others) / len(others) if others else 0.0
