"""The duplicate index: keys of what was stored, with what is to be known of it, on disk, derived from a stream.

A RocksDB store beside nothing else: losing it costs a rebuild. It is therefore written without waiting for the disk; what
it claims to have applied is written in one piece with the rows, so that a killed process leaves it right.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final, cast

import structlog
from rocksdict import Rdict, WriteBatch

from processors.duplicates.rocks import (
    IndexLockedError,
    IndexUnavailableError,
    IndexUnusableError,
    destroy_store,
    named,
    open_store,
)

__all__ = ["DuplicateIndex", "IndexUnavailableError", "IndexUnusableError"]

log = structlog.get_logger(__name__)

_FORMAT: Final = b"2"
_KEY_BYTES: Final = 16
_DAY_BYTES: Final = 3
_PLACES: Final = 4
"""A second process on the same path builds an index of its own beside the first one's; more than these is a mistake."""
_KEPT_S: Final = 86_400.0
"""So long after its last use the index of a second process is kept for the next one."""

# Facts are told from rows by the length of their names.
_MADE_BY: Final = b"format"
_STREAM: Final = b"stream"
_APPLIED: Final = b"applied"
_SWEPT: Final = b"swept"


def _values(db: Rdict, keys: list[bytes]) -> list[bytes | None]:
    """What stands under each of ``keys``."""
    return cast("list[bytes | None]", db.get(cast("list[Any]", keys)))


class DuplicateIndex:
    """Keys of 16 bytes, each with a payload and the day it was stored.

    Keys that lie in the order of time (``schemas.ids.event_key`` of time-ordered ids) cost least: what arrives now is written
    to one end, and what comes late is looked for in few places. Others lie anywhere, and cost a little more.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.applied = 0
        """Everything up to this sequence of the stream is known."""
        self._place = path
        self._written = 0
        self._db: Rdict | None = None
        self._swept_before = 0
        """Nothing was stored before this day."""
        self._sweeping_before = 0
        self._swept_to = b""
        self._damaged = False

    def open(self, stream_identity: str) -> None:
        """Opens or creates the index of the stream so identified; one that turned out damaged is made anew.

        Raises IndexUnusableError or IndexUnavailableError.
        """
        if self._damaged:
            self.destroy()
        for number in range(_PLACES):
            self._place = self.path.with_name(f"{self.path.name}.{number}" if number else self.path.name)
            try:
                self._db = open_store(self._place)
            except IndexLockedError:
                if number == _PLACES - 1:
                    raise
                continue
            break
        try:
            self._read_facts(stream_identity)
        except (IndexUnusableError, IndexUnavailableError):
            self.close()
            raise
        if self._place == self.path:
            self._tidy()
        else:
            log.warning("index.beside_another", path=str(self._place), reason="another process has the first one open")

    def _read_facts(self, stream_identity: str) -> None:
        stream = stream_identity.encode()
        with self._open_store() as db:
            made_by, made_for, applied, swept = _values(db, [_MADE_BY, _STREAM, _APPLIED, _SWEPT])
            if made_by is None and next(iter(db.keys()), None) is None:
                batch = WriteBatch(raw_mode=True)
                batch.put(_MADE_BY, _FORMAT)
                batch.put(_STREAM, stream)
                db.write(batch)
                made_by, made_for = _FORMAT, stream
        if (made_by, made_for) != (_FORMAT, stream):
            msg = f"{self._place}: made for another stream or by another version"
            raise IndexUnusableError(msg)
        self.applied = self._written = int(applied or 0)
        self._swept_before = int(swept or 0)
        self._sweeping_before, self._swept_to = 0, b""

    def _tidy(self) -> None:
        """Removes what second processes left long ago."""
        for number in range(1, _PLACES):
            place = self.path.with_name(f"{self.path.name}.{number}")
            try:
                if place.is_dir() and time.time() - max(file.stat().st_mtime for file in (place, *place.iterdir())) > _KEPT_S:
                    destroy_store(place)
            except (OSError, IndexUnavailableError):
                continue

    @contextmanager
    def _open_store(self) -> Iterator[Rdict]:
        """The store; an error met inside has a name, and damage is remembered."""
        if self._db is None:
            msg = f"{self._place}: not open"
            raise IndexUnavailableError(msg)
        try:
            with named(self._place):
                yield self._db
        except IndexUnusableError:
            self._damaged = True
            raise

    def known(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The payloads of those ``keys`` that are in the index. Raises IndexUnusableError or IndexUnavailableError."""
        with self._open_store() as db:
            values = _values(db, list(keys))
        if not any(values):
            return {}
        return {key: value[:-_DAY_BYTES] for key, value in zip(keys, values, strict=True) if value is not None}

    def add(self, rows: Iterable[tuple[bytes, bytes]], applied: int, day: int) -> None:
        """Adds rows stored on ``day`` (since 1970), in the place of those of the same keys, and moves ``applied``, together: both or neither. Raises like ``known``."""
        stored = day.to_bytes(_DAY_BYTES, "big")
        batch = WriteBatch(raw_mode=True)
        put = batch.put
        for key, payload in rows:
            put(key, payload + stored)
        self.applied = max(self.applied, applied)
        if len(batch):
            self._write(batch)

    def _write(self, batch: WriteBatch) -> None:
        batch.put(_APPLIED, b"%d" % self.applied)
        with self._open_store() as db:
            db.write(batch)
        self._written = self.applied

    def sweep(self, before_day: int, most: int) -> int:
        """Looks at the next ``most`` rows and forgets those stored before ``before_day``; returns how many.

        Once all rows have been looked at there is nothing to do until ``before_day`` grows. Raises like ``known``.
        """
        if before_day <= self._swept_before:
            return 0
        if not self._swept_to:
            self._sweeping_before = before_day
        before = self._sweeping_before.to_bytes(_DAY_BYTES, "big")
        gone, last = WriteBatch(raw_mode=True), b""
        with self._open_store() as db:
            looked_at = 0
            for key, value in islice(cast("Iterator[tuple[bytes, bytes]]", db.items(from_key=self._swept_to)), most):
                last = key
                looked_at += 1
                if value[-_DAY_BYTES:] < before and len(key) == _KEY_BYTES:
                    gone.delete(key)
            forgotten = len(gone)
            if looked_at < most:
                self._swept_before, last = self._sweeping_before, b""
                gone.put(_SWEPT, b"%d" % self._swept_before)
            if len(gone):
                db.write(gone)
        self._swept_to = last + b"\x00" if last else b""
        return forgotten

    def close(self) -> None:
        """Closes the index; what could not be written is found in the stream again."""
        db, self._db = self._db, None
        if db is None:
            return
        try:
            with named(self._place):
                if self._written != self.applied:
                    db.put(_APPLIED, b"%d" % self.applied)
                db.close()
        except (IndexUnusableError, IndexUnavailableError) as error:
            log.warning("index.close_failed", error=str(error))

    def destroy(self) -> None:
        """Closes and removes the index, to be built again."""
        self._written = self.applied
        self.close()
        self.applied = self._written = 0
        self._damaged = False
        try:
            destroy_store(self._place)
        except IndexUnavailableError as error:
            # Another process has it by now; ours will stand beside it.
            log.warning("index.not_destroyed", error=str(error))
