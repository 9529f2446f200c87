"""The last ten seconds of proxied requests, in constant memory."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

WINDOW_S: Final = 10
OVERDUE_S: Final = 10.0
"""A request unanswered for longer counts as one that failed, before it ends: a hang must show while it lasts."""
_GROWTH: Final = math.log(1.05)


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the window saw; latencies are None when it saw nothing."""

    requests: int
    errors: int
    latency_ms: float | None
    """Mean."""
    latency_p95_ms: float | None
    """At most 5 % above the true one."""
    error_rate: float | None
    requests_per_s: float
    failing_for_s: float | None = None
    """Since the first of its failed requests was asked; None where none failed."""


@dataclass(slots=True)
class _Slot:
    requests: int = 0
    errors: int = 0
    total_ms: float = 0.0
    first_failed_at: float | None = None
    """When the first of its failed requests began."""
    histogram: dict[int, int] = field(default_factory=dict)

    def add(self, began_at: float, latency_ms: float, *, failed: bool) -> None:
        if failed and (self.first_failed_at is None or began_at < self.first_failed_at):
            self.first_failed_at = began_at
        self.requests += 1
        self.errors += failed
        self.total_ms += latency_ms
        place = math.ceil(math.log(max(latency_ms, 0.01)) / _GROWTH)
        self.histogram[place] = self.histogram.get(place, 0) + 1


class Window:
    """Requests of the last ``WINDOW_S`` seconds, forgotten second by second. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._slots: dict[int, _Slot] = {}

    def add(self, ended_at: float, latency_ms: float, *, failed: bool) -> None:
        """A request ended."""
        second = int(ended_at)
        slot = self._slots.get(second)
        if slot is None:
            self._forget(ended_at)
            slot = self._slots[second] = _Slot()
        slot.add(ended_at - latency_ms / 1000, latency_ms, failed=failed)

    def _forget(self, now: float) -> None:
        for second in [second for second in self._slots if second <= int(now) - WINDOW_S]:
            del self._slots[second]

    def traffic(self, now: float, pending_since: Iterable[float] = ()) -> Traffic:
        """What the last seconds saw, requests pending for longer than ``OVERDUE_S`` included as failed ones."""
        self._forget(now)
        overdue = _Slot()
        for began_at in pending_since:
            if now - began_at > OVERDUE_S:
                overdue.add(began_at, (now - began_at) * 1000, failed=True)
        slots = [*self._slots.values(), overdue]
        requests = sum(slot.requests for slot in slots)
        if not requests:
            return Traffic(0, 0, None, None, None, 0.0)
        errors = sum(slot.errors for slot in slots)
        failing = [slot.first_failed_at for slot in slots if slot.first_failed_at is not None]
        histogram: dict[int, int] = {}
        for slot in slots:
            for place, count in slot.histogram.items():
                histogram[place] = histogram.get(place, 0) + count
        return Traffic(
            requests=requests,
            errors=errors,
            latency_ms=sum(slot.total_ms for slot in slots) / requests,
            latency_p95_ms=_quantile(histogram, math.ceil(requests * 0.95)),
            error_rate=errors / requests,
            requests_per_s=requests / WINDOW_S,
            failing_for_s=now - min(failing) if failing else None,
        )


def _quantile(histogram: dict[int, int], rank: int) -> float:
    seen = 0
    place = 0
    for place in sorted(histogram):
        seen += histogram[place]
        if seen >= rank:
            break
    return math.exp(place * _GROWTH)
