"""Deliberate faults: which are in force, when each ends, and what they do to a request."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from schemas.sections import Fault
from schemas.state import AskedFault

LONGEST_S: Final = 86_400.0
"""No fault lasts longer, whatever its deadline says."""
DEFAULT_LATENCY_MS: Final = 1000.0
DEFAULT_STATUS: Final = 500
DEFAULT_BYTES_PER_S: Final = 1024.0
DEFAULT_CUT_BYTES: Final = 64.0

Ending = Literal["deadline", "cleared", "done"]


@dataclass(frozen=True, slots=True)
class Active:
    """A fault in force until ``deadline``, in monotonic seconds: a wall clock set back does not prolong it."""

    fault: Fault
    deadline: float
    draws: random.Random | None = field(default=None, compare=False, repr=False)
    """Where the fault has a seed: its own chance, so that the same requests are struck every time."""


def intensity(fault: Fault, default: float) -> float:
    """How strong it is, in the unit of its kind."""
    given = fault.intensity if isinstance(fault, AskedFault) else None
    return default if given is None else given


def due(
    wanted: Sequence[Fault], begins: dict[str, float], *, wall: datetime, monotonic: float
) -> tuple[tuple[Fault, ...], dict[str, float]]:
    """Those of ``wanted`` whose time has come, and when the others' comes, in monotonic seconds; ``begins`` is what was found before."""
    later = {
        fault.fault_id: begins.get(fault.fault_id, monotonic + (fault.begins_at - wall).total_seconds())
        for fault in wanted
        if isinstance(fault, AskedFault) and fault.begins_at is not None and (fault.fault_id in begins or fault.begins_at > wall)
    }
    waiting = {fault_id: at for fault_id, at in later.items() if at > monotonic}
    return tuple(fault for fault in wanted if fault.fault_id not in waiting), waiting


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
        seed = fault.seed if isinstance(fault, AskedFault) else None
        now = Active(fault, monotonic + min(remaining, LONGEST_S), None if seed is None else random.Random(seed))
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


@dataclass(frozen=True, slots=True)
class Reset:
    """The connection is reset without an answer."""

    cause: Active


@dataclass(frozen=True, slots=True)
class Slow:
    """The body of the answer comes at so many bytes a second, while the fault lasts."""

    cause: Active
    bytes_per_s: float


@dataclass(frozen=True, slots=True)
class Cut:
    """The answer breaks off after so many bytes."""

    cause: Active
    after: int


Step = Delay | Hold | Fail | Reset | Slow | Cut


def treatment(active: Sequence[Active], monotonic: float, draw: Callable[[], float]) -> tuple[Step, ...]:
    """What one request meets, in order: every delay, then the hold, the reset or the failure, else what becomes of its answer. ``draw`` gives 0 ≤ x < 1."""
    now = [item for item in active if item.deadline > monotonic]
    steps: list[Step] = []
    for item in now:
        if item.fault.kind == "latency" and _struck(item, draw):
            latency_ms = DEFAULT_LATENCY_MS if item.fault.latency_ms is None else item.fault.latency_ms
            steps.append(
                Delay(
                    item,
                    (latency_ms + (draw() if item.draws is None else item.draws.random()) * (item.fault.jitter_ms or 0.0)) / 1000,
                )
            )
    for item in now:
        if item.fault.kind == "blackhole" and _struck(item, draw):
            return (*steps, Hold(item))
    for item in now:
        if item.fault.kind == "reset" and _struck(item, draw):
            return (*steps, Reset(item))
    for item in now:
        if item.fault.kind == "error" and _struck(item, draw):
            return (*steps, Fail(item, item.fault.status_code or DEFAULT_STATUS))
    for item in now:
        if item.fault.kind == "throttle" and _struck(item, draw):
            steps.append(Slow(item, intensity(item.fault, DEFAULT_BYTES_PER_S)))
        elif item.fault.kind == "truncate" and _struck(item, draw):
            steps.append(Cut(item, int(intensity(item.fault, DEFAULT_CUT_BYTES))))
    return tuple(steps)


def _struck(item: Active, draw: Callable[[], float]) -> bool:
    """Whether this request is one of those it strikes."""
    if item.fault.rate is None:
        return True
    return (draw() if item.draws is None else item.draws.random()) < item.fault.rate
