"""What becomes of a version on trial: it waits, it passes, or it is taken back. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from agent_manager.healing.verdict import Sick
from agent_manager.lifecycle.reconcile import Absent, Alive, Ended, Seen
from schemas.versions import Canary


@dataclass(frozen=True, slots=True)
class Wait:
    """Too early to say."""

    reason: str


@dataclass(frozen=True, slots=True)
class Pass:
    """It was well until the end of its trial."""

    reason: str


@dataclass(frozen=True, slots=True)
class TakeBack:
    """The version before it returns."""

    reason: str


Judgement = Wait | Pass | TakeBack


def judged(
    canary: Canary, seen: Seen, *, running: str | None, error_rate: float | None, patience: timedelta, now: datetime
) -> Judgement:
    """The one thing to do now. ``patience``: how long a new instance may take before its probes are held against it."""
    match seen:
        case Ended(reason=reason):
            return TakeBack(f"it ended: {reason}")
        case Absent():
            return Wait("nothing runs") if now < canary.until else TakeBack("nothing runs at the end of its trial")
        case Alive(since=since, was_fit=was_fit, verdict=Sick(reason=reason, ended=ended)):
            if was_fit or ended or now >= since + patience:
                return TakeBack(f"it is UNHEALTHY: {reason}")
            return Wait("still coming up")
        case Alive():
            pass
    if running != canary.version:
        return Wait(f"{running} runs")
    if error_rate is not None and error_rate > canary.max_error_rate:
        return TakeBack(f"{error_rate:.1%} of its requests fail, at most {canary.max_error_rate:.1%} may")
    if now < canary.until:
        return Wait("on trial")
    if isinstance(seen, Alive) and seen.was_fit:
        return Pass("healthy until the end of its trial")
    return TakeBack("it did not become HEALTHY within its trial")
