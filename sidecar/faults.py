"""Deliberate faults: which are in force, when each ends, and what they do to a request."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from schemas.sections import Fault

LONGEST_S: Final = 86_400.0
"""No fault lasts longer, whatever its deadline says."""
DEFAULT_LATENCY_MS: Final = 1000.0
DEFAULT_STATUS: Final = 500

Ending = Literal["deadline", "cleared", "done"]


@dataclass(frozen=True, slots=True)
class Active:
    """A fault in force until ``deadline``, in monotonic seconds: a wall clock set back does not prolong it."""

    fault: Fault
    deadline: float


@dataclass(frozen=True, slots=True)
class Change:
    """The faults in force from now on, and what is different."""

    active: tuple[Active, ...]
    begun: tuple[Active, ...] = ()
    ended: tuple[tuple[Active, Ending], ...] = ()

    @property
    def is_nothing(self) -> bool:
        """Whether everything is as it was."""
        return not self.begun and not self.ended


def asked(
    active: Sequence[Active], wanted: Sequence[Fault], spent: frozenset[str], *, wall: datetime, monotonic: float
) -> Change:
    """What follows from ``wanted``, the whole set now asked for. Expired faults, and those ``spent``, are left aside."""
    known = {item.fault.fault_id: item for item in active}
    kept: list[Active] = []
    begun: list[Active] = []
    for fault in wanted:
        remaining = (fault.until - wall).total_seconds()
        if fault.fault_id in spent or remaining <= 0:
            continue
        before = known.get(fault.fault_id)
        if before is not None and before.fault == fault:
            kept.append(before)
            continue
        now = Active(fault, monotonic + min(remaining, LONGEST_S))
        kept.append(now)
        if before is None:
            begun.append(now)
    still = {item.fault.fault_id for item in kept}
    ended: list[tuple[Active, Ending]] = [
        (item, "deadline" if item.deadline <= monotonic else "cleared") for item in active if item.fault.fault_id not in still
    ]
    return Change(tuple(kept), tuple(begun), tuple(ended))


def passed(active: Sequence[Active], monotonic: float) -> Change:
    """What follows from the time alone."""
    kept = tuple(item for item in active if item.deadline > monotonic)
    return Change(kept, ended=tuple((item, "deadline") for item in active if item.deadline <= monotonic))


def without(active: Sequence[Active], fault_id: str) -> Change:
    """What follows when a fault that happens once has happened."""
    kept = tuple(item for item in active if item.fault.fault_id != fault_id)
    return Change(kept, ended=tuple((item, "done") for item in active if item.fault.fault_id == fault_id))


@dataclass(frozen=True, slots=True)
class Delay:
    """The request waits this long, or until the fault ends."""

    cause: Active
    seconds: float


@dataclass(frozen=True, slots=True)
class Hold:
    """The request waits until the fault ends, and is never forwarded."""

    cause: Active


@dataclass(frozen=True, slots=True)
class Fail:
    """The request is answered with this status instead of being forwarded."""

    cause: Active
    status: int


Step = Delay | Hold | Fail


def treatment(active: Sequence[Active], monotonic: float, draw: Callable[[], float]) -> tuple[Step, ...]:
    """What one request meets, in order: every delay, then the hold, then the failure. ``draw`` gives 0 ≤ x < 1."""
    now = [item for item in active if item.deadline > monotonic]
    steps: list[Step] = []
    for item in now:
        if item.fault.kind == "latency":
            latency_ms = DEFAULT_LATENCY_MS if item.fault.latency_ms is None else item.fault.latency_ms
            steps.append(Delay(item, (latency_ms + draw() * (item.fault.jitter_ms or 0.0)) / 1000))
    for item in now:
        if item.fault.kind == "blackhole":
            steps.append(Hold(item))
            return tuple(steps)
    for item in now:
        if item.fault.kind == "error" and draw() < (1.0 if item.fault.rate is None else item.fault.rate):
            steps.append(Fail(item, item.fault.status_code or DEFAULT_STATUS))
            break
    return tuple(steps)
