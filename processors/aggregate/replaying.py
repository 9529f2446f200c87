"""What a replay reads of each stream, and whether that gives a whole warehouse. Pure."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydantic import BaseModel, ConfigDict

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


class Begun(BaseModel):
    """What an unfinished file was to become: the note beside it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    since: datetime | None = None
    until: datetime | None = None
    without_head: bool = False
    snapshot: str | None = None
    """The file, its size and when it was last changed."""

    def told(self) -> str:
        """As options of the command line."""
        given = [
            f"--from {self.since.isoformat()}" if self.since else "",
            f"--until {self.until.isoformat()}" if self.until else "",
            f"--snapshot {self.snapshot.split('|')[0]}" if self.snapshot else "",
            "--without-head" if self.without_head else "",
        ]
        return " ".join(filter(None, given)) or "no options"


OTHERWISE: Final = "or say --start-over to remove what is there, or name another file"


def may_go_on(begun: Begun, wanted: Begun) -> Impossible | None:
    """Why an unfinished file cannot become what is ``wanted`` now; None where it can."""
    if begun == wanted:
        return None
    if begun.told() == wanted.told():
        return Impossible(
            "the unfinished replay into this file began from a snapshot that has changed since", f"Restore it, {OTHERWISE}"
        )
    return Impossible(
        f"the unfinished replay into this file was begun with {begun.told()}, this one with {wanted.told()}",
        f"Say the same to go on with it, {OTHERWISE}",
    )


def go_on(extent: Extent, held: Offset | None, *, without_head: bool) -> Read | Impossible:
    """What is left to read of one stream, behind what an unfinished file holds of it."""
    if held is None:
        return decide(extent, None, without_head=without_head)
    name = extent.stream
    verdict = judge(name, held, extent.created, extent.last)
    if isinstance(verdict, Wiped):
        return Impossible(
            f"the unfinished replay is not of this stream: {verdict.reason.split(';')[0]}", f"Restore the streams, {OTHERWISE}"
        )
    missing = extent.first - 1 - held.applied_sequence
    if missing > 0:
        return Impossible(
            f"{name} begins at {extent.first:,} now: {missing:,} messages that the unfinished replay had not read have aged out or were purged",
            "Say --start-over, with a newer snapshot or --without-head, or name another file",
        )
    last = extent.last if extent.until is None else min(extent.last, extent.until)
    return Read(name, held.applied_sequence, max(held.applied_sequence, last))


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
