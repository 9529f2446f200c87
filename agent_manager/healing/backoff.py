"""How long to wait before the next restart, and when to stop trying."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas.state import HealingConfig


@dataclass(frozen=True, slots=True)
class Allowed:
    """A restart may happen, not before ``due_at``."""

    due_at: datetime
    attempt: int
    """How many restarts came before it and are not forgotten."""


@dataclass(frozen=True, slots=True)
class Exhausted:
    """Too many restarts in the window: a person is needed."""

    restarts: int
    window_s: float

    @property
    def reason(self) -> str:
        """In words."""
        return f"{self.restarts} restarts in {self.window_s:g} s"


def delay_s(attempt: int, policy: HealingConfig, draw: float) -> float:
    """Seconds before the restart that ``attempt`` restarts precede; ``draw`` in [0, 1) spreads it.

    The first is immediate; then from half to the whole of an exponentially growing, bounded time.
    """
    if attempt <= 0:
        return 0.0
    # The exponent is bounded before it is raised: 2.0 ** 5000 is an error, not a long time.
    whole = min(policy.backoff_max_s, policy.backoff_initial_s * 2.0 ** min(attempt - 1, 60))
    return whole * (0.5 + 0.5 * draw)


def next_restart(restarts: Sequence[datetime], policy: HealingConfig, draw: float, now: datetime) -> Allowed | Exhausted:
    """Whether and when one more restart may follow ``restarts`` (automatic ones that are not forgotten)."""
    window = timedelta(seconds=policy.window_s)
    recent = sum(1 for at in restarts if now - at < window)
    if recent >= policy.max_restarts:
        return Exhausted(recent, policy.window_s)
    attempt = len(restarts)
    if attempt == 0:
        return Allowed(now, 0)
    return Allowed(max(restarts) + timedelta(seconds=delay_s(attempt, policy, draw)), attempt)


def remembered(
    restarts: Sequence[datetime], policy: HealingConfig, *, healthy_since: datetime | None, now: datetime
) -> tuple[datetime, ...]:
    """The restarts that still count: a healthy spell of ``reset_after_s`` forgets all, age beyond every horizon each."""
    if healthy_since is not None and (now - healthy_since).total_seconds() >= policy.reset_after_s:
        return ()
    horizon = timedelta(seconds=max(policy.window_s, policy.reset_after_s))
    # A clock that was set back leaves restarts in the future: nobody waits for those to come.
    return tuple(min(at, now) for at in restarts if now - at < horizon)[-1000:]
