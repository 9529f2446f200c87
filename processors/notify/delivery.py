"""What follows from one attempt to deliver. Pure: time and chance are arguments."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

FIRST_PAUSE: Final = timedelta(seconds=1)
LONGEST_RETRY_AFTER: Final = timedelta(hours=1)
"""A channel may ask for more patience than ours, but not for any."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long it is tried."""

    longest_pause: timedelta = timedelta(seconds=60)
    give_up_after: timedelta = timedelta(days=1)
    attempts: int = 12
    """For failures that may lie in the message itself."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """The channel has it."""


@dataclass(frozen=True, slots=True)
class Away:
    """The channel could not be asked, or asked for patience."""

    reason: str
    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The channel answered and failed: it may be ill, or choke on this message."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The channel said no. Trying again never helps."""

    reason: str


Outcome = Delivered | Away | Failed | Refused


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing more to do."""


@dataclass(frozen=True, slots=True)
class TryAgain:
    """Deliver again ``after`` this pause."""

    after: timedelta
    reason: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The change will not reach the channel; people must be able to see that."""

    reason: str


def decide(outcome: Outcome, attempt: int, age: timedelta, patience: Patience, chance: float) -> Done | TryAgain | GiveUp:
    """What to do after ``attempt`` (1 …) for a change of this ``age``; ``chance`` in [0, 1) spreads the pauses."""
    match outcome:
        case Delivered():
            return Done()
        case Refused(reason):
            return GiveUp(reason)
        case Failed(reason) if attempt >= patience.attempts:
            return GiveUp(f"{reason}, {attempt} times")
        case Away(reason) | Failed(reason) if age >= patience.give_up_after:
            return GiveUp(f"{reason}, for {age.total_seconds() / 3600:.1f} h")
    pause = pause_after(attempt, patience, chance)
    if isinstance(outcome, Away) and outcome.retry_after is not None:
        pause = max(pause, min(outcome.retry_after, LONGEST_RETRY_AFTER))
    return TryAgain(pause, outcome.reason)


def pause_after(attempt: int, patience: Patience, chance: float) -> timedelta:
    """Doubles with each attempt up to the longest; somewhere in its upper half."""
    longest = min(patience.longest_pause, FIRST_PAUSE * 2.0 ** min(attempt - 1, 30))
    return longest * (0.5 + chance / 2)


def of_status(status: int, retry_after: str | None, now: datetime) -> Outcome:
    """What an HTTP answer means."""
    if 200 <= status < 300:
        return Delivered()
    if status in {408, 425, 429, 502, 503, 504}:
        return Away(f"HTTP {status}", _asked_for(retry_after, now))
    if status >= 500:
        return Failed(f"HTTP {status}")
    return Refused(f"HTTP {status}")


def _asked_for(retry_after: str | None, now: datetime) -> timedelta | None:
    """The ``Retry-After`` of an answer: seconds, or a date."""
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isdecimal():
        return timedelta(seconds=min(int(text[:9]), 10**6))
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(timedelta(0), (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now)
