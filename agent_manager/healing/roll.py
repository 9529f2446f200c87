"""How every agent stands, so that one can be judged by the others."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

Standing = Literal["well", "trouble", "gone", "down"]
"""``gone``: its process ended, and it was not restarted lately: once is its own affair. ``down``: stopped, or never started."""


@dataclass(frozen=True, slots=True)
class FleetLimits:
    """When the cause is taken to be elsewhere."""

    share: float
    """Of the agents that should run: from this share in trouble on nobody is restarted."""
    least: int
    """Smaller fleets are not judged: two of three may well have troubles of their own."""
    trial: timedelta
    """One agent is restarted all the same, this far apart, to find out whether restarts help again."""


@dataclass(slots=True)
class Roll:
    """Written by every keeper about its own agent; counting costs the same whatever the fleet's size."""

    limits: FleetLimits
    _standings: dict[str, Standing] = field(default_factory=dict)
    _trouble: int = 0
    _wanted: int = 0
    _needs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _tried_at: datetime | None = None
    held: bool = False
    """Whether restarts were held back when last asked."""

    def stands(self, key: str, standing: Standing, needs: Iterable[str] = ()) -> None:
        """Says how the agent ``key`` stands, and which agents of its tenant it needs."""
        self.gone(key)
        self._standings[key] = standing
        self._needs[key] = tuple(needs)
        self._trouble += standing == "trouble"
        self._wanted += standing != "down"
        if self.unwell() is None:
            self.held, self._tried_at = False, None

    def gone(self, key: str) -> None:
        """It is not managed any more."""
        before = self._standings.pop(key, None)
        self._needs.pop(key, None)
        self._trouble -= before == "trouble"
        self._wanted -= before in {"well", "trouble", "gone"}

    def down(self, key: str) -> tuple[str, ...]:
        """Those that ``key`` needs and that do not run well.

        What nobody here manages is not held against it, nor is what itself waits for ``key``.
        """
        tenant = key.partition(".")[0]
        needed = (f"{tenant}.{agent}" for agent in self._needs.get(key, ()))
        return tuple(
            other.partition(".")[2]
            for other in needed
            if self._standings.get(other, "well") != "well" and not self._reaches(other, key)
        )

    def _reaches(self, begin: str, end: str) -> bool:
        tenant = begin.partition(".")[0]
        seen, waiting = {begin}, [begin]
        while waiting:
            for agent in self._needs.get(waiting.pop(), ()):
                key = f"{tenant}.{agent}"
                if key == end:
                    return True
                if key not in seen:
                    seen.add(key)
                    waiting.append(key)
        return False

    def unwell(self) -> tuple[int, int] | None:
        """How many are in trouble of how many that should run, where that is too many for the cause to be theirs."""
        too_many = self._wanted >= self.limits.least and self._trouble >= self.limits.share * self._wanted
        return (self._trouble, self._wanted) if too_many else None

    def trial_due(self, now: datetime) -> bool:
        """Whether one restart may be tried while the fleet is unwell; the first only after a whole ``trial``."""
        if self._tried_at is None or self._tried_at > now:
            self._tried_at = now
        return now - self._tried_at >= self.limits.trial

    def tried(self, now: datetime) -> None:
        """One was restarted."""
        self._tried_at = now
