"""The spool's file format: frames of length, CRC-32 and payload, one after the other."""

import struct
from dataclasses import dataclass
from typing import Final
from zlib import crc32

_HEAD: Final = struct.Struct(">II")
HEAD_BYTES: Final = _HEAD.size
MAX_PAYLOAD_BYTES: Final = 4 * 1024 * 1024
"""A length above this is garbage, not a record."""


class UnreadableRecordError(ValueError):
    """A whole frame does not hold a record. Trying again does not help."""


@dataclass(frozen=True, slots=True)
class Record:
    """One event on its way: its JSON on one line, and what names it."""

    kind: str
    event_id: str
    line: bytes

    def payload(self) -> bytes:
        """The record as the payload of a frame."""
        return f"{self.kind} {self.event_id}\n".encode() + self.line


@dataclass(frozen=True, slots=True)
class Frames:
    """The complete frames at the start of some bytes."""

    payloads: tuple[bytes, ...]
    end: int
    """Where the last complete frame ends; what follows is torn, garbage, or nothing."""


def _check(length: int, payload: bytes) -> int:
    # The length is part of the sum, or a run of zero bytes would be a valid empty frame.
    return crc32(payload, crc32(length.to_bytes(4, "big")))


def encode(payload: bytes) -> bytes:
    """``payload`` as one frame."""
    return _HEAD.pack(len(payload), _check(len(payload), payload)) + payload


def frame_bytes(data: bytes) -> int | None:
    """How long the frame that begins ``data`` claims to be; None where that cannot be a frame."""
    if len(data) < HEAD_BYTES:
        return None
    length, _ = _HEAD.unpack_from(data)
    return HEAD_BYTES + length if 0 < length <= MAX_PAYLOAD_BYTES else None


def decode(data: bytes, *, most_bytes: int | None = None, most_frames: int | None = None) -> Frames:
    """The complete frames that begin ``data``, at most so many; the first is taken whatever its size."""
    payloads: list[bytes] = []
    end = 0
    while most_frames is None or len(payloads) < most_frames:
        if end + HEAD_BYTES > len(data):
            break
        length, check = _HEAD.unpack_from(data, end)
        stop = end + HEAD_BYTES + length
        if not 0 < length <= MAX_PAYLOAD_BYTES or stop > len(data):
            break
        if payloads and most_bytes is not None and stop > most_bytes:
            break
        payload = data[end + HEAD_BYTES : stop]
        if _check(length, payload) != check:
            break
        payloads.append(payload)
        end = stop
    return Frames(tuple(payloads), end)


def record(payload: bytes) -> Record:
    """The record in a frame's payload; raises UnreadableRecordError."""
    head, separator, line = payload.partition(b"\n")
    kind, space, event_id = head.partition(b" ")
    if not separator or not space:
        raise UnreadableRecordError(f"a frame of {len(payload)} bytes is no record")
    return Record(kind.decode(errors="replace"), event_id.decode(errors="replace"), line)
