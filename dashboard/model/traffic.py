"""The fleet's real requests right now, out of every agent's latest measurement; and how that went over the last minutes."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from schemas.state import Observation

KEPT_S: Final = 300
"""Seconds the live plots look back."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests of the whole fleet in the agents' latest windows. None where nobody measured."""

    mean_ms: float | None
    p95_ms: float | None
    error_rate: float | None
    requests_per_s: float


def weighted_percentile(values: Iterable[tuple[float, float]], share: float) -> float | None:
    """The smallest value at or below which at least ``share`` of the weight lies; ``values`` are (value, weight)."""
    ordered = sorted((value, weight) for value, weight in values if weight > 0)
    total = sum(weight for _, weight in ordered)
    reached = 0.0
    for value, weight in ordered:
        reached += weight
        if reached >= share * total:
            return value
    return None


def traffic(observations: Sequence[Observation]) -> Traffic:
    """Weighs every agent by its requests. The p95 is that of the agents' own p95s: exact for one agent, near for many."""
    latencies: list[tuple[float, float]] = []
    tails: list[tuple[float, float]] = []
    errors = requests = 0.0
    rate = 0.0
    for observation in observations:
        metrics = observation.metrics
        weight = float(metrics.requests or 0)
        requests += weight
        errors += weight * (metrics.error_rate or 0.0)
        rate += metrics.requests_per_s or 0.0
        if metrics.latency_ms is not None:
            latencies.append((metrics.latency_ms, weight))
            tails.append((metrics.latency_p95_ms if metrics.latency_p95_ms is not None else metrics.latency_ms, weight))
    weights = sum(weight for _, weight in latencies)
    return Traffic(
        mean_ms=sum(value * weight for value, weight in latencies) / weights if weights else None,
        p95_ms=weighted_percentile(tails, 0.95),
        error_rate=errors / requests if requests else None,
        requests_per_s=rate,
    )


Point = tuple[int, float | None, float | None]
"""Milliseconds since 1970, mean, p95."""


class LatencyTrail:
    """A point a second, the last five minutes; shared by all tabs, so that a new one starts with a full line."""

    def __init__(self) -> None:
        self.points: deque[Point] = deque(maxlen=KEPT_S)
        self.fresh: deque[Point] = deque(maxlen=KEPT_S)
        """Points not yet shown."""

    def note(self, now_ms: int, seen: Traffic) -> None:
        """Adds the point of this second; a second call within it changes nothing."""
        second = now_ms // 1000 * 1000
        if self.points and self.points[-1][0] >= second:
            return
        point = (
            second,
            None if seen.mean_ms is None else round(seen.mean_ms, 1),
            None if seen.p95_ms is None else round(seen.p95_ms, 1),
        )
        self.points.append(point)
        self.fresh.append(point)

    def take_fresh(self) -> list[Point]:
        """The points added since the last call."""
        fresh = list(self.fresh)
        self.fresh.clear()
        return fresh
