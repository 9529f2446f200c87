"""What of a full spool goes first: metrics and logs, then heartbeats, the oldest first; what money or history hangs on, never. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from sidecar.frames import Frames, Record, UnreadableRecordError, frame_bytes, record
from sidecar.messages import own_kind

CLASSES: Final = (frozenset({"metric", "log"}), frozenset({"heartbeat"}))
"""In the order in which they go."""
NEVER: Final = len(CLASSES)


def rank(kind: str) -> int:
    """Index into ``CLASSES``; ``NEVER`` for what is never dropped."""
    return next((number for number, kinds in enumerate(CLASSES) if kind in kinds), NEVER)


def highest(records: Iterable[Record]) -> int:
    """The rank of the most important of ``records``: they may displace what ranks no higher."""
    return max((rank(own_kind(each)) for each in records), default=0)


@dataclass(frozen=True, slots=True)
class Held:
    """One record of a segment that may be dropped."""

    begin: int
    """Where its frame begins in the segment."""
    size: int
    kind: str
    rank: int


def droppable(frames: Frames, offset: int) -> tuple[Held, ...]:
    """What of ``frames``, which begin at ``offset`` of their segment, may be dropped."""
    found: list[Held] = []
    for payload in frames.payloads:
        size = frame_bytes_of(payload)
        try:
            kind = own_kind(record(payload))
        except UnreadableRecordError:
            kind = ""
        if (of := rank(kind)) < NEVER:
            found.append(Held(offset, size, kind, of))
        offset += size
    return tuple(found)


def frame_bytes_of(payload: bytes) -> int:
    """How long the frame of ``payload`` is."""
    size = frame_bytes(len(payload).to_bytes(4, "big") + bytes(4))
    assert size is not None, "a frame holds something, and not too much"
    return size


def without(data: bytes, victims: Sequence[Held]) -> bytes:
    """``data`` of a segment with the frames of ``victims`` (in order) cut out."""
    kept, at = [], 0
    for victim in victims:
        kept.append(data[at : victim.begin])
        at = victim.begin + victim.size
    kept.append(data[at:])
    return b"".join(kept)
