"""Whether silence means anything now: only a listener who has heard everything may judge it. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

LONGEST_GAP: Final = timedelta(seconds=2)
"""We look several times a second; a longer gap means that we were held up, or the machine slept."""


@dataclass(frozen=True, slots=True)
class Attention:
    """Since when everything that was said has been heard without a break; None: it is not so now."""

    since: datetime | None = None
    looked_at: datetime | None = None
    reconnects: int = 0
    why: str = "has not begun to listen"


def look(before: Attention, now: datetime, *, caught_up: bool, connected: bool, reconnects: int) -> Attention:
    """The attention at ``now``. Every break begins it anew, and with it the grace of one set of heartbeats."""
    if not connected:
        return Attention(None, now, reconnects, "NATS is away")
    if not caught_up:
        return Attention(None, now, reconnects, "input is pending")
    if before.since is None:
        return Attention(now, now, reconnects, f"before: {before.why}")
    if reconnects != before.reconnects:
        return Attention(now, now, reconnects, "NATS was away")
    if before.looked_at is not None and not timedelta(0) <= now - before.looked_at <= LONGEST_GAP:
        return Attention(now, now, reconnects, "the clock jumped, or this process was held up")
    return Attention(before.since, now, reconnects, before.why)


def interrupted(before: Attention, now: datetime, why: str) -> Attention:
    """Attention that is known to have been broken by something outside."""
    return Attention(None, now, before.reconnects, why)
