"""What an observation says about the instance that runs now, if it speaks of that instance at all."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from schemas.state import Observation

STOPPED_BY_COMMAND: Final = "stopped by command"
"""How a sidecar says that it was told to stop its agent: what follows a TERM of ours is no trouble."""


@dataclass(frozen=True, slots=True)
class Fit:
    """HEALTHY and running."""

    since: datetime
    reason: str = "healthy"


@dataclass(frozen=True, slots=True)
class Mending:
    """RECOVERING."""

    reason: str = "recovering"


@dataclass(frozen=True, slots=True)
class Sick:
    """In trouble, and it is this instance that is."""

    reason: str
    began_at: datetime
    ended: bool = False
    """The agent's process is gone: waiting for it to come up is vain."""
    absent: bool = False
    """Judged by silence; silence may be ours."""
    stuck: bool = False
    """It lives, and gets nowhere."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nothing is said about this instance."""

    reason: str


Verdict = Fit | Mending | Sick | Unknown


def judge(observation: Observation | None, *, started_at: datetime | None, verify_within: timedelta, now: datetime) -> Verdict:
    """What ``observation`` means for the instance started at ``started_at``.

    What was concluded before the start, or from the silence of an earlier instance, does not speak of this one. Only
    when ``verify_within`` has passed and health still says so does an old verdict count again. An agent that should
    run and whose process ended, even with exit code 0, is in trouble: somebody waits for it.
    """
    if observation is None:
        return Unknown("no observation yet")
    if started_at is None:
        return Unknown("nothing runs")
    if observation.updated_at <= started_at:
        return Unknown("the observation is older than this instance")
    if observation.status == "stopped":
        if observation.reason == STOPPED_BY_COMMAND:
            return Unknown("the observation is of an instance that was stopped")
        return Sick(f"its process ended: {observation.reason}", observation.updated_at, ended=True)
    if observation.health == "HEALTHY" and observation.status == "starting":
        return Unknown("the observation is of an instance that made room for this one")
    if observation.health == "HEALTHY":
        return Fit(observation.since)
    if observation.health == "RECOVERING":
        return Mending()
    absent = observation.status == "inactive"
    beat = observation.last_heartbeat
    old = observation.since <= started_at or (absent and (beat is None or beat <= started_at))
    if old and now < started_at + verify_within:
        return Unknown("unhealthy before this instance started; waiting for a verdict on it")
    return Sick(
        reason=observation.reason or "unhealthy",
        began_at=observation.began_at or observation.since,
        ended=observation.status == "error",
        absent=absent,
        stuck=observation.health == "STUCK",
    )
