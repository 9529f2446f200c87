"""How much one tenant may send. Pure: now is an argument."""

from dataclasses import dataclass
from typing import Final

_SECONDS_SAVED: Final = 2.0
"""What was not used is saved up for so long."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """It may."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Not yet: nothing was counted."""

    seconds: float


class Rates:
    """Events a second for each tenant; a tenant is known by a good key, so there are only so many."""

    def __init__(self, events_per_s: float) -> None:
        self._per_s = events_per_s
        self._most = events_per_s * _SECONDS_SAVED
        self._saved: dict[str, tuple[float, float]] = {}

    def take(self, tenant: str, events: int, now: float) -> Allowed | Wait:
        """Whether ``events`` may come at ``now`` (seconds that only grow). More than can be saved up may come when all is saved."""
        saved, at = self._saved.get(tenant, (self._most, now))
        saved = min(self._most, saved + max(0.0, now - at) * self._per_s)
        needed = min(float(events), self._most)
        if saved < needed:
            self._saved[tenant] = (saved, now)
            return Wait((needed - saved) / self._per_s)
        # A debt, where the request was larger than what can be saved: the next waits for it.
        self._saved[tenant] = (saved - events, now)
        return Allowed()
