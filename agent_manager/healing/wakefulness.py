"""Noticing that this process, or its clock, was away."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

LONGEST_GAP: Final = timedelta(seconds=2)
"""We look four times a second; a longer gap means that the process was stopped or held up."""
SMALLEST_JUMP: Final = timedelta(seconds=1)
"""Less than that is a clock being corrected, and shorter than anything measured with it here."""
_LOOK_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Looked:
    """Both clocks at one moment."""

    wall: datetime
    steady_s: float


@dataclass(frozen=True, slots=True)
class Awake:
    """Nothing happened."""


@dataclass(frozen=True, slots=True)
class Away:
    """The process did not run, or the machine slept."""

    gap: timedelta


@dataclass(frozen=True, slots=True)
class ClockJumped:
    """The clock on the wall was set; what was noted by it is off by this much."""

    by: timedelta


def compare(before: Looked, after: Looked) -> Awake | Away | ClockJumped:
    """What happened between two looks. A machine that slept moves the wall alone on some systems: both answers fit then."""
    steady = timedelta(seconds=after.steady_s - before.steady_s)
    jump = (after.wall - before.wall) - steady
    if abs(jump) >= SMALLEST_JUMP:
        return ClockJumped(jump)
    return Away(steady) if steady > LONGEST_GAP else Awake()


class Wakefulness:
    """Looks at both clocks for ever and tells what it finds."""

    def __init__(
        self, clock: Callable[[], datetime], steady: Callable[[], float], tell: Callable[[Away | ClockJumped], None]
    ) -> None:
        self._clock = clock
        self._steady = steady
        self._tell = tell
        self._before = self._now()

    def _now(self) -> Looked:
        return Looked(self._clock(), self._steady())

    def look(self) -> None:
        """Tells of what happened since the last look, once."""
        before, self._before = self._before, self._now()
        found = compare(before, self._before)
        if not isinstance(found, Awake):
            self._tell(found)

    async def run(self) -> None:
        """For ever."""
        while True:
            self.look()
            await asyncio.sleep(_LOOK_S)
