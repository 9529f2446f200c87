"""What an audit is to look at. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, get_args

from streams import topology

Stage = Literal["validate", "cost", "aggregate", "billing"]
STAGES: Final[tuple[Stage, ...]] = get_args(Stage)
"""``validate``: TELEMETRY into EVENTS. ``cost``: EVENTS into LEDGER. ``aggregate``: streams into the warehouse. ``billing``: calls against charges."""
STREAMS: Final = (topology.EVENTS, topology.LEDGER, topology.ALERTS)
"""The streams that are audited, in the order in which data flows; TELEMETRY is what ``validate`` answers for."""
_WRITES: Final[Mapping[str, Stage]] = {topology.EVENTS: "validate", topology.LEDGER: "cost"}


class ScopeError(ValueError):
    """An audit of that is none. Trying again does not help; the message says what goes together."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Everything, unless told otherwise. Raises ScopeError for what does not go together."""

    since: datetime | None = None
    """Messages stored at this moment or later."""
    until: datetime | None = None
    """Messages stored before this moment."""
    sequences: Mapping[str, tuple[int, int | None]] = field(default_factory=dict)
    """First and last sequence by stream, both included; of another stream than these, everything in the range of time."""
    tenant: str | None = None
    streams: tuple[str, ...] = STREAMS
    stages: tuple[Stage, ...] = STAGES
    most: int | None = None
    """At most so many of the newest messages of each stream: for who must not take long."""
    every_message: bool = False
    """Read the header of every message too, and what entries of the ledger come to, instead of relying on the sums of coverage records."""

    def __post_init__(self) -> None:
        for stream in (*self.streams, *self.sequences):
            if stream not in STREAMS:
                raise ScopeError(f"{stream!r} is not audited: there are {', '.join(STREAMS)}")
        for stage in self.stages:
            if stage not in STAGES:
                raise ScopeError(f"{stage!r} is no stage: there are {', '.join(STAGES)}")
        if self.since is not None and self.until is not None and self.since > self.until:
            raise ScopeError("the range ends before it begins")
        for stream, (first, last) in self.sequences.items():
            if first < 1 or (last is not None and last < first):
                raise ScopeError(
                    f"{stream} {first} to {last} is no range of sequences: they begin at 1, and the first comes first"
                )
        if self.tenant is not None and not {"aggregate", "billing"} & set(self.stages):
            raise ScopeError(
                "coverage records are of all tenants together: only the stages aggregate and billing can be asked for one"
            )

    @property
    def whole(self) -> bool:
        """Whether nothing of what lies in the streams is left out."""
        return self.since is None and self.until is None and not self.sequences and self.most is None and self.tenant is None

    def reads(self, stream: str) -> bool:
        """Whether anything is to be said about ``stream``."""
        return stream in self.streams and (self.has("aggregate") or _WRITES.get(stream) in self.stages)

    def has(self, stage: Stage) -> bool:
        """Whether ``stage`` is to be audited."""
        return stage in self.stages

    def accounts(self, stream: str) -> Stage | None:
        """The stage that answers for what was written into ``stream``, where it is to be audited."""
        stage = _WRITES.get(stream)
        return stage if stage in self.stages and self.tenant is None else None

    @property
    def bills(self) -> bool:
        """Whether calls and charges are to be compared."""
        return self.has("billing") and topology.EVENTS in self.streams


@dataclass(frozen=True, slots=True)
class Range:
    """Sequences of a stream after ``after`` up to ``last``."""

    after: int
    last: int

    @property
    def empty(self) -> bool:
        """Whether there is nothing in it."""
        return self.last <= self.after

    def windows(self, bins: list[tuple[int, int, int]], most: int) -> list["Range"]:
        """The range cut where ``bins`` (last sequence, messages, events; in order) come to ``most`` rows: what one question can hold."""
        cut: list[Range] = []
        start, rows = self.after, 0
        for last, messages, events in bins:
            rows += max(messages, events)
            if rows >= most and start < last < self.last:
                cut.append(Range(start, last))
                start, rows = last, 0
        return [*cut, Range(start, self.last)] if start < self.last else cut
