"""Whether a stream is still the one whose offset the warehouse keeps."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from processors.aggregate.warehouse import Offset


@dataclass(frozen=True, slots=True)
class Follows:
    """The stream goes on where the warehouse stands."""

    after: int
    behind: int
    """Messages the warehouse has not applied."""


@dataclass(frozen=True, slots=True)
class Wiped:
    """The stream was emptied or made anew: its sequences mean something else now."""

    reason: str


_WAY_OUT = "move the warehouse file away to fill a new one from the streams, or restore the streams"


def judge(stream: str, offset: Offset | None, created: datetime, last_sequence: int) -> Follows | Wiped:
    """How the stream as it is (``created``, ``last_sequence``) relates to the stored ``offset``."""
    if offset is None:
        return Follows(0, last_sequence)
    if last_sequence < offset.applied_sequence:
        return Wiped(
            f"stream {stream} ends at {last_sequence}, the warehouse has applied {offset.applied_sequence}: "
            f"the stream was wiped; {_WAY_OUT}"
        )
    if abs(created - offset.stream_created) > timedelta(milliseconds=1):
        return Wiped(
            f"stream {stream} was created at {created:%Y-%m-%dT%H:%M:%SZ}, the warehouse was filled from one created at "
            f"{offset.stream_created:%Y-%m-%dT%H:%M:%SZ}: the stream was deleted and made anew; {_WAY_OUT}"
        )
    return Follows(offset.applied_sequence, last_sequence - offset.applied_sequence)
