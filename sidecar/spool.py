"""The bounded spool on disk: everything on its way to NATS, in order, across kills of this process.

Fullness: at most ``max_bytes`` of segment files. Beyond it the oldest metrics and logs are dropped, then the oldest heartbeats, never
anything else (``sidecar.priorities``), each counted; where that does not make room the record is refused. Otherwise records are removed
only after NATS stored them. Durability: a record is with the operating system before ``append`` returns, so it
survives any kill of this process; with ``sync`` it is on the disk, and survives power loss, at one fsync an append.
"""

import fcntl
import os
import struct
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple
from zlib import crc32

import structlog

from sidecar.drop_counts import DropCounts
from sidecar.frames import HEAD_BYTES, MAX_PAYLOAD_BYTES, Record, UnreadableRecordError, decode, encode, frame_bytes, record
from sidecar.messages import own_kind
from sidecar.priorities import CLASSES, Held, droppable, highest, rank, without
from sidecar.room import kinds, sacrifice

log = structlog.get_logger(__name__)

_POSITION: Final = struct.Struct(">QQQQ")
_SEGMENT_BYTES: Final = 4 * 1024 * 1024
_ROLL_WHEN_EMPTY_BYTES: Final = 256 * 1024
_SPARE: Final = 32
"""So small a part of the bound is made free beyond what is needed, when room is made."""


class SpoolBusyError(RuntimeError):
    """Another sidecar of the same agent holds the spool. Trying again helps once that one has ended."""


class Place(NamedTuple):
    """A place between two records."""

    segment: int
    offset: int


@dataclass(frozen=True, slots=True)
class Stored:
    """The records are in the spool."""

    records: int
    displaced: tuple[tuple[str, int], ...] = ()
    """What was dropped: to make room for them, or of them because it was too large. How many of which kind."""


@dataclass(frozen=True, slots=True)
class Full:
    """Nothing was taken: there is no room."""

    reason: str


@dataclass(frozen=True, slots=True)
class Batch:
    """The records that leave next, together."""

    records: tuple[Record, ...]
    end: Place


class Spool:
    """One agent's spool. ``open`` recovers it: a torn tail is cut off, everything before it is kept."""

    def __init__(self, directory: Path, max_bytes: int, *, sync: bool) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._segment_bytes = max(4096, min(_SEGMENT_BYTES, max_bytes // 8))
        self._sync = sync
        self._sizes: dict[int, int] = {}
        self._done = Place(0, 0)
        self._taken = Place(0, 0)
        self._readers: dict[int, int] = {}
        self._droppable: dict[int, list[int] | None] = {}
        """Bytes of each class in a segment, at most; None where it has not been looked at since the spool was opened."""
        self.drops = DropCounts(directory / "dropped.json")
        self._lock_file = -1
        self._position_file = -1
        self._writer = -1
        self._torn = False
        """Whether something may stand behind the end of the segment being written."""
        self.unreadable = 0
        """Places where the files held no records any more (a damaged disk), each skipped to the next segment."""

    @classmethod
    def open(cls, directory: Path, max_bytes: int, *, sync: bool = False, patience_s: float = 0.0) -> "Spool":
        """The spool in ``directory``, this process being its only user; raises SpoolBusyError after ``patience_s``."""
        directory.mkdir(parents=True, exist_ok=True)
        spool = cls(directory, max_bytes, sync=sync)
        spool._lock(patience_s)
        spool._recover()
        return spool

    def _lock(self, patience_s: float) -> None:
        self._lock_file = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + patience_s
        while True:
            try:
                fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    os.close(self._lock_file)
                    raise SpoolBusyError(f"another sidecar uses {self._directory}: stop it first") from error
                time.sleep(0.05)
            else:
                return

    def _path(self, segment: int) -> Path:
        return self._directory / f"{segment:020d}.seg"

    def _recover(self) -> None:
        self._position_file = os.open(self._directory / "position", os.O_RDWR | os.O_CREAT, 0o600)
        raw = os.pread(self._position_file, _POSITION.size + 4, 0)
        if len(raw) == _POSITION.size + 4 and crc32(raw[:-4]) == int.from_bytes(raw[-4:], "big"):
            first, offset, last, end = _POSITION.unpack(raw[:-4])
            self._done, self._taken = Place(first, offset), Place(last, end)
        for draft in self._directory.glob("*.seg.new"):
            # The room it was to make was not made yet: the segment is as it was.
            draft.unlink()
        for path in self._directory.glob("*.seg"):
            segment = int(path.stem)
            if segment < self._done.segment:
                path.unlink()
            else:
                self._sizes[segment] = path.stat().st_size
                self._droppable[segment] = None
        if not self._sizes:
            self._roll(self._done.segment + 1)
            return
        newest, oldest = max(self._sizes), min(self._sizes)
        data = self._path(newest).read_bytes()
        whole = decode(data).end
        if whole < len(data):
            log.warning("spool.torn_tail", cut_bytes=len(data) - whole, kept_bytes=whole)
            os.truncate(self._path(newest), whole)
            self._sizes[newest] = whole
        if self._done.segment < oldest:
            self._done = Place(oldest, 0)
        if self._done.offset > self._sizes[self._done.segment]:
            self._done = Place(self._done.segment, self._sizes[self._done.segment])
        self._writer = os.open(self._path(newest), os.O_WRONLY | os.O_APPEND)

    def _roll(self, segment: int) -> None:
        """``segment`` is written from now on; raises OSError, and then the one before still is."""
        # First the new one: where it cannot be had, the number of the old one must not be somebody else's by the next try.
        opened = os.open(self._path(segment), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        before, self._writer, self._torn = self._writer, opened, False
        if before >= 0:
            os.close(before)
        self._sizes[segment] = 0
        self._droppable[segment] = [0] * len(CLASSES)

    @property
    def waiting_bytes(self) -> int:
        """Bytes not yet stored by NATS."""
        return sum(self._sizes.values()) - (self._done.offset if self._done.segment in self._sizes else 0)

    def append(self, records: Sequence[Record], *, share: float = 1.0) -> Stored | Full:
        """All of ``records``, or none: where more than ``share`` of the bound would be full and nothing may go, or the disk is full.

        One that is larger than a frame may be would make what is behind it unreadable: it is dropped and counted, the others are taken.
        """
        payloads = [item.payload() for item in records]
        large = [item for item, payload in zip(records, payloads, strict=True) if len(payload) > MAX_PAYLOAD_BYTES]
        if large:
            records = [item for item in records if item not in large]
            payloads = [item.payload() for item in records]
        frames = [encode(payload) for payload in payloads]
        size = sum(map(len, frames))
        # A segment that loses records is written anew beside itself: that much is kept free.
        limit = int((self._max_bytes - self._segment_bytes) * share)
        held = sum(self._sizes.values())
        displaced: tuple[tuple[str, int], ...] = ()
        try:
            if held + size > limit:
                # Who has a share of the bound only, and is beyond it, takes the place of what goes, and clears no more.
                spare = self._max_bytes // _SPARE if share == 1.0 else 0
                made = self._make_room(min(held + size - limit, size), spare, highest(records))
                if made is None:
                    return Full(f"the spool holds {held:,} of {limit:,} bytes")
                displaced = made
            self._write(records, frames)
        except OSError as error:
            log.error("spool.write_failed", error=repr(error))
            return Full(f"the disk refuses: {error.strerror}")
        return Stored(len(records), (*displaced, *self._given_up(large)) if large else displaced)

    def _given_up(self, large: Sequence[Record]) -> tuple[tuple[str, int], ...]:
        for item in large:
            log.error(
                "spool.too_large", kind=own_kind(item), event_id=item.event_id, bytes=len(item.line), most=MAX_PAYLOAD_BYTES
            )
        lost = Counter(own_kind(item) for item in large)
        self.drops.add(lost)
        return tuple(sorted(lost.items()))

    def _write(self, records: Sequence[Record], frames: Sequence[bytes]) -> None:
        """All of ``frames`` behind what there is, in as many segments as they need; raises OSError, and then none of them."""
        if self._torn:
            self._roll(max(self._sizes) + 1)
        first = newest = max(self._sizes)
        before, counted = self._sizes[newest], list(self._droppable[newest] or ()) or None
        try:
            for begin, end in self._cut(frames, before):
                if begin is None:
                    newest += 1
                    self._roll(newest)
                    continue
                view = memoryview(b"".join(frames[begin:end]))
                self._sizes[newest] += len(view)
                while view:
                    view = view[os.write(self._writer, view) :]
                if self._sync:
                    os.fdatasync(self._writer)
                self._count(newest, records[begin:end], frames[begin:end])
        except OSError:
            self._take_back(first, before, counted)
            raise

    def _cut(self, frames: Sequence[bytes], size: int) -> list[tuple[int | None, int]]:
        """Ranges of ``frames`` that go together; (None, 0) where a new segment begins. A frame larger than a segment has one alone."""
        found: list[tuple[int | None, int]] = []
        begin = 0
        for number, frame in enumerate(frames):
            if size and size + len(frame) > self._segment_bytes:
                if number > begin:
                    found.append((begin, number))
                found.append((None, 0))
                begin, size = number, 0
            size += len(frame)
        if len(frames) > begin:
            found.append((begin, len(frames)))
        return found

    def _count(self, segment: int, records: Sequence[Record], frames: Sequence[bytes]) -> None:
        counted = self._droppable[segment]
        if counted is not None:
            for item, frame in zip(records, frames, strict=True):
                if (of := rank(own_kind(item))) < len(CLASSES):
                    counted[of] += len(frame)

    def _take_back(self, first: int, size: int, counted: list[int] | None) -> None:
        """As it was before: ``first`` with ``size`` bytes, and what was begun behind it empty. Needs nothing of a full disk, opens nothing."""
        newest = max(self._sizes)
        for segment in [number for number in self._sizes if first < number < newest]:
            self._path(segment).unlink(missing_ok=True)
            del self._sizes[segment], self._droppable[segment]
        if newest > first:
            self._sizes[newest], self._droppable[newest] = 0, [0] * len(CLASSES)
        self._sizes[first], self._droppable[first] = size, counted
        try:
            os.ftruncate(self._writer, self._sizes[newest])
            if newest > first:
                os.truncate(self._path(first), size)
        except OSError as error:
            # What is behind the known size is not read; what comes next must not stand behind it.
            self._torn = True
            log.error("spool.not_taken_back", segment=newest, error=repr(error))

    def _make_room(self, needed: int, spare: int, upto: int) -> tuple[tuple[str, int], ...] | None:
        """Drops what may go for records of rank ``upto``; returns how many of which kind, None where that is too little. May raise OSError."""
        if not self._may_go(upto, needed):
            return None
        looked: dict[int, tuple[Held, ...]] = {}

        def read(segment: int) -> tuple[Held, ...]:
            if segment not in looked:
                looked[segment] = self._look(segment)
            return looked[segment]

        found = sacrifice(sorted(self._sizes), read, upto, needed, spare)
        if found is None:
            return None
        dropped = Counter[str]()
        for segment, victims in found.victims.items():
            lost = kinds(victims)
            # Counted before they go: killed between the two, they are counted twice rather than not at all.
            self.drops.add(lost)
            self._cut_out(segment, victims)
            dropped.update(lost)
        log.warning("spool.dropped", dropped=dict(dropped), bytes=found.size, segments=len(found.victims))
        return tuple(sorted(dropped.items()))

    def _may_go(self, upto: int, needed: int) -> bool:
        """Whether ``needed`` bytes may go for records of rank ``upto``, as far as is known without reading what was read before."""
        total = 0
        for segment in sorted(self._sizes):
            if self._droppable[segment] is None:
                self._look(segment)
            total += sum((self._droppable[segment] or [])[: upto + 1])
            if total >= needed:
                return True
        return False

    def _look(self, segment: int) -> tuple[Held, ...]:
        """What of ``segment`` may go: nothing that has left already, or is on its way and must come again as it was."""
        begin = self._done.offset if segment == self._done.segment else 0
        if segment == self._taken.segment:
            begin = max(begin, self._taken.offset)
        with self._path(segment).open("rb") as file:
            file.seek(begin)
            found = droppable(decode(file.read()), begin) if segment >= self._done.segment else ()
        self._droppable[segment] = [sum(held.size for held in found if held.rank == each) for each in range(len(CLASSES))]
        return found

    def _cut_out(self, segment: int, victims: tuple[Held, ...]) -> None:
        """``segment`` without ``victims``: whole as it was or whole as it is to be, whenever this process is killed."""
        if segment == max(self._sizes):
            self._roll(segment + 1)
        path = self._path(segment)
        left = without(path.read_bytes(), victims)
        if segment in self._readers:
            os.close(self._readers.pop(segment))
        if not left and segment != self._done.segment:
            path.unlink()
            del self._sizes[segment], self._droppable[segment]
            return
        draft = path.with_suffix(".seg.new")
        try:
            with draft.open("wb") as file:
                file.write(left)
                if self._sync:
                    file.flush()
                    os.fdatasync(file.fileno())
            draft.replace(path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise
        self._sizes[segment] = len(left)
        counted = self._droppable[segment]
        if counted is not None:
            for victim in victims:
                counted[victim.rank] -= victim.size

    def take(self, most_bytes: int, most_records: int) -> Batch | None:
        """The next records of one segment, or None. Remembered on disk: after a kill the same batch is taken again."""
        while True:
            segment, offset = self._done
            size = self._sizes.get(segment, 0)
            if offset < size:
                begun = self._taken.segment == segment and self._taken.offset > offset
                end = min(self._taken.offset, size) if begun else size
                found = self._read(segment, offset, end, None if begun else most_bytes, None if begun else most_records)
                if found is not None:
                    if found.end != self._taken:
                        self._taken = found.end
                        self._remember()
                    return found
                self.unreadable += 1
                log.error("spool.unreadable", segment=segment, offset=offset, bytes=size - offset)
            later = [number for number in self._sizes if number > segment]
            if not later:
                if offset < size:
                    # Damage in the segment being written: what comes next goes to a fresh one.
                    self._roll(segment + 1)
                    continue
                return None
            self._move(Place(min(later), 0))

    def _read(self, segment: int, offset: int, end: int, most_bytes: int | None, most_records: int | None) -> Batch | None:
        if segment not in self._readers:
            self._readers[segment] = os.open(self._path(segment), os.O_RDONLY)
        reader = self._readers[segment]
        wanted = end - offset if most_bytes is None else min(end - offset, most_bytes)
        head = os.pread(reader, HEAD_BYTES, offset)
        first = frame_bytes(head)
        if first is None or offset + first > end:
            return None
        frames = decode(os.pread(reader, max(wanted, first), offset), most_bytes=most_bytes, most_frames=most_records)
        if not frames.payloads:
            return None
        records = []
        for payload in frames.payloads:
            try:
                records.append(record(payload))
            except UnreadableRecordError as error:
                self.unreadable += 1
                log.error("spool.unreadable", segment=segment, offset=offset, error=str(error))
        return Batch(tuple(records), Place(segment, offset + frames.end))

    def remove(self, batch: Batch) -> None:
        """``batch``, as taken, is stored by NATS: it will not be taken again."""
        self._move(batch.end)
        newest = max(self._sizes)
        if self._done == Place(newest, self._sizes[newest]) and self._sizes[newest] > min(
            _ROLL_WHEN_EMPTY_BYTES, self._segment_bytes // 2
        ):
            self._roll(newest + 1)
            self._move(Place(newest + 1, 0))

    def _move(self, place: Place) -> None:
        self._done = place
        self._remember()
        for segment in [number for number in self._sizes if number < place.segment]:
            if segment in self._readers:
                os.close(self._readers.pop(segment))
            self._path(segment).unlink(missing_ok=True)
            del self._sizes[segment], self._droppable[segment]

    def _remember(self) -> None:
        packed = _POSITION.pack(*self._done, *self._taken)
        os.pwrite(self._position_file, packed + crc32(packed).to_bytes(4, "big"), 0)

    def close(self) -> None:
        """Lets go of the files; what waits stays for the next sidecar."""
        for file in (self._writer, self._position_file, *self._readers.values(), self._lock_file):
            os.close(file)
        self._readers.clear()
