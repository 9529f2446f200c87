"""What to do about one agent now: pure, from what is desired and what is seen."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from agent_manager.healing.backoff import Exhausted, next_restart
from agent_manager.healing.roll import Standing
from agent_manager.healing.verdict import Fit, Mending, Sick, Unknown, Verdict
from agent_manager.healing.withholding import MoneySpent, UnderMaintenance, Withheld
from schemas.sections import AgentStatus
from schemas.state import HealingConfig

Desired = Literal["running", "stopped"]


@dataclass(frozen=True, slots=True)
class Absent:
    """No process, and none is missed: never started, or stopped on purpose."""


@dataclass(frozen=True, slots=True)
class Alive:
    """The leader of the agent's process group lives."""

    since: datetime
    """When it was started, or adopted."""
    confirmed: bool
    """Its sidecar has answered, or was heard of."""
    was_fit: bool
    """This instance has been HEALTHY."""
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Ended:
    """It went without being asked, or could not be started."""

    reason: str
    at: datetime


Seen = Absent | Alive | Ended


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What else the decision rests on."""

    policy: HealingConfig
    healing_enabled: bool
    gave_up: bool
    restarts: tuple[datetime, ...]
    """Automatic restarts that are not forgotten."""
    draw: float
    """In [0, 1): one number per restart, so that waiting does not redraw it."""
    calm: bool
    """NATS has been connected, and we have been up, for long enough to trust silence."""
    has_manifest: bool
    patience: timedelta
    """How long a new instance may take to become HEALTHY before its probes are held against it."""
    silence: timedelta
    """How long a sidecar may take to answer at all."""
    awake_since: datetime | None = None
    """When we last came back from being away: what should have happened meanwhile may not have."""
    withheld: Withheld | None = None
    """What speaks against a restart now, though the backoff may allow it."""


@dataclass(frozen=True, slots=True)
class Leave:
    """Nothing to do."""

    reason: str
    wake_at: datetime | None = None
    """Look again then, if nothing else happens."""
    withheld: Withheld | None = None
    """A restart would be due, were it not for this."""


@dataclass(frozen=True, slots=True)
class Start:
    """Bring it up: nothing runs."""

    reason: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Take it down."""

    reason: str


@dataclass(frozen=True, slots=True)
class Restart:
    """Take down whatever is left of it and bring it up."""

    reason: str
    cause: Literal["unhealthy", "ended"]
    attempt: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Stop trying until a person asks."""

    reason: str
    restarts: int


Decision = Leave | Start | Stop | Restart | GiveUp


def decide(desired: Desired, seen: Seen, given: Circumstances, now: datetime) -> Decision:
    """The one thing to do now."""
    if desired == "stopped":
        return Stop("the desired state is stopped") if isinstance(seen, Alive) else Leave("stopped, as desired")
    if isinstance(seen, Alive):
        return _alive(seen, given, now)
    if given.gave_up:
        return Leave("gave up; a person's start or recover resumes")
    if not given.has_manifest:
        return Leave("its manifest is gone")
    if isinstance(seen, Absent):
        return Start("the desired state is running")
    if not given.healing_enabled:
        return Leave(f"{seen.reason}; self-healing is off")
    return _again(seen.reason, "ended", given, now)


def _alive(seen: Alive, given: Circumstances, now: datetime) -> Decision:
    sick = seen.verdict
    since = seen.since if given.awake_since is None else max(seen.since, given.awake_since)
    if not isinstance(sick, Sick):
        if seen.confirmed or now < since + given.silence:
            return Leave(sick.reason)
        sick = Sick("its sidecar does not answer", seen.since)
    if not given.healing_enabled:
        return Leave(f"{sick.reason}; self-healing is off")
    if given.gave_up:
        return Leave(f"{sick.reason}; gave up, a person's start or recover resumes")
    if not given.has_manifest:
        return Leave(f"{sick.reason}; its manifest is gone")
    if sick.stuck and not given.policy.restart_when_stuck:
        return Leave(f"{sick.reason}; healing.restart_when_stuck is off")
    if sick.absent and not given.calm:
        return Leave("silence is not held against it: the manager itself has only just been (re)connected")
    if not seen.was_fit and not sick.ended and now < since + given.patience:
        return Leave("still coming up", wake_at=since + given.patience)
    return _again(sick.reason, "unhealthy", given, now)


def _again(reason: str, cause: Literal["unhealthy", "ended"], given: Circumstances, now: datetime) -> Decision:
    if given.withheld is not None:
        until = given.withheld.until if isinstance(given.withheld, UnderMaintenance | MoneySpent) else None
        return Leave(f"{reason}; not restarted: {given.withheld.reason}", wake_at=until, withheld=given.withheld)
    allowed = next_restart(given.restarts, given.policy, given.draw, now)
    if isinstance(allowed, Exhausted):
        return GiveUp(f"{reason}; {allowed.reason}", allowed.restarts)
    if now < allowed.due_at:
        return Leave(f"{reason}; waiting before restart {allowed.attempt + 1}", wake_at=allowed.due_at)
    return Restart(reason, cause, allowed.attempt + 1)


def standing(desired: Desired, seen: Seen, restarts: tuple[datetime, ...], *, gave_up: bool) -> Standing:
    """How the agent stands in the eyes of the others."""
    if desired == "stopped":
        return "down"
    if gave_up:
        return "trouble"
    match seen:
        case Absent():
            return "down"
        case Ended():
            return "trouble" if restarts else "gone"
        case Alive(verdict=Sick(ended=True)):
            return "trouble" if restarts else "gone"
        case Alive(verdict=Sick()):
            return "trouble"
        case Alive():
            return "well"


def status_of(seen: Seen, *, gave_up: bool) -> tuple[AgentStatus, str]:
    """The state that what is seen amounts to, with its reason."""
    if isinstance(seen, Absent):
        return ("error", "gave up") if gave_up else ("stopped", "")
    if isinstance(seen, Ended):
        return "error", seen.reason
    match seen.verdict:
        case Sick(ended=True, reason=reason):
            return "error", reason
        case Sick(absent=True, reason=reason):
            return "inactive", reason
        case Sick(reason=reason):
            return "running", reason
        case Fit() | Mending():
            return "running", ""
        case Unknown(reason=reason):
            return ("running", "") if seen.confirmed else ("starting", reason)
