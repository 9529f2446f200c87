"""When an instance may take a partition, and how many it should have. Pure: time and process ids are arguments."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from schemas.leases import Lease

RENEWED_S: Final = 0.7
SILENT_S: Final = 2.0
"""A lease that nobody renewed for so long, by the clock of whoever looks, is free."""

SURE_S: Final = SILENT_S - 0.2
"""Who renewed a lease within this may rely on it: nobody can have heard nothing of it for longer."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an instance runs."""

    host: str
    pid: int


@dataclass(frozen=True, slots=True)
class Seen:
    """A claim as last heard of."""

    lease: Lease
    revision: int
    at_s: float
    """When it was heard, by the listener's own monotonic clock."""


@dataclass(frozen=True, slots=True)
class Free:
    """It may be taken, by replacing ``revision`` (0: where nothing stands)."""

    revision: int
    reason: str


@dataclass(frozen=True, slots=True)
class Taken:
    """Another instance is at work."""

    by: str


def judge(seen: Seen | None, now_s: float, me: Place, is_alive: Callable[[int], bool]) -> Free | Taken:
    """Whether a partition may be taken."""
    if seen is None:
        return Free(0, "nobody has it")
    lease = seen.lease
    if lease.host == me.host and lease.pid != me.pid and not is_alive(lease.pid):
        return Free(seen.revision, f"the process of {lease.instance} is gone")
    if now_s - seen.at_s >= SILENT_S:
        return Free(seen.revision, f"{lease.instance} has been silent for {now_s - seen.at_s:.1f} s")
    return Taken(lease.instance)


def fair_share(partitions: int, instances: int) -> int:
    """How many partitions an instance should have at most."""
    return -(-partitions // max(1, instances))


def to_give_back(held: Mapping[int, bool], share: int) -> list[int]:
    """Which held partitions go back because others have none: the highest. ``held`` tells of each whether it may be given back."""
    free = [partition for partition, movable in sorted(held.items()) if movable]
    return free[max(0, len(free) - max(0, len(held) - share)) :]
