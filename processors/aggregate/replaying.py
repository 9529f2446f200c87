"""What a replay reads of each stream, and whether that gives a whole warehouse. Pure."""

from dataclasses import dataclass
from datetime import datetime

from processors.aggregate.standing import Wiped, judge
from processors.aggregate.warehouse import Offset


@dataclass(frozen=True, slots=True)
class Extent:
    """One stream as it stands."""

    stream: str
    first: int
    last: int
    created: datetime
    began_at: int = 1
    """The sequence it was created to begin with."""
    since: int | None = None
    """The position before what is asked for; None: from the beginning."""
    until: int | None = None
    """The last message asked for; None: to the end."""


@dataclass(frozen=True, slots=True)
class Read:
    """Messages after ``after`` up to ``last``."""

    stream: str
    after: int
    last: int
    note: str | None = None
    """What a person should know of it."""

    @property
    def messages(self) -> int:
        """At most so many."""
        return max(0, self.last - self.after)


@dataclass(frozen=True, slots=True)
class Impossible:
    """It would not be the warehouse that was asked for."""

    reason: str
    advice: str


def decide(extent: Extent, snapshot: Offset | None, *, without_head: bool) -> Read | Impossible:
    """What to read of one stream, behind what the ``snapshot`` holds of it."""
    name = extent.stream
    last = extent.last if extent.until is None else min(extent.last, extent.until)
    if snapshot is not None:
        verdict = judge(name, snapshot, extent.created, extent.last)
        if isinstance(verdict, Wiped):
            return Impossible(
                f"the snapshot is not of this stream: {verdict.reason.split(';')[0]}",
                "Take a snapshot that was made from these streams",
            )
    after = snapshot.applied_sequence if snapshot is not None else 0
    if extent.since is not None:
        if snapshot is not None:
            return Impossible(
                "a snapshot holds everything from the beginning, so --from means nothing beside it", "Leave one of them out"
            )
        return Read(name, max(after, extent.since), max(last, extent.since))
    missing = extent.first - 1 - max(after, extent.began_at - 1)
    if missing > 0 and not without_head:
        kept = f"the snapshot ends at {after:,}" if snapshot is not None else "there is no snapshot"
        return Impossible(
            f"{name} begins at {extent.first:,}: {missing:,} messages before that have aged out or were purged, and {kept}",
            f"{'Take a newer snapshot' if snapshot is not None else 'Start from one with --snapshot FILE'} "
            "(`agentops snapshot list`), or say --without-head for a warehouse of what is left",
        )
    note = f"{name} begins at {extent.first:,}: {missing:,} messages before that are left out" if missing > 0 else None
    return Read(name, after, max(after, last), note)
