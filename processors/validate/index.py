"""The duplicate index: every accepted id with what it said, on disk, derived from EVENTS.

A SQLite file beside nothing else: losing it costs a rebuild. It is therefore written without waiting for the disk; what
it claims to have applied is stored in the same transaction as the rows, so that a killed process leaves it right.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import structlog

log = structlog.get_logger(__name__)

_FORMAT: Final = "1"
_SIZES: Final = (512, 64, 8, 1)
_QUERIES: Final = {n: f"SELECT key, payload FROM seen WHERE key IN ({','.join('?' * n)})" for n in _SIZES}  # noqa: S608 - only question marks


class IndexUnusableError(Exception):
    """The file is damaged, or belongs to another EVENTS. Trying again does not help; a rebuild does."""


class DuplicateIndex:
    """Keys of accepted events with their payload hash and the day they were indexed.

    One process writes; a second one on the same file waits its turn, and both write the same truth.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.applied = 0
        """Every event on ``events.>`` up to this EVENTS sequence is in the index."""
        self._db: sqlite3.Connection | None = None
        self._swept = b""

    def open(self, stream_identity: str) -> None:
        """Opens or creates the file for the EVENTS so identified; raises IndexUnusableError where it cannot serve."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._open(stream_identity)
        except sqlite3.DatabaseError as error:
            self.close()
            raise IndexUnusableError(f"{self.path}: {error}") from error
        except IndexUnusableError:
            self.close()
            raise

    def _open(self, stream_identity: str) -> None:
        db = self._db = sqlite3.connect(self.path, timeout=5.0, isolation_level=None)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=OFF")
        db.execute("PRAGMA cache_size=-16384")
        db.execute("CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
        db.execute(
            "CREATE TABLE IF NOT EXISTS seen (key BLOB PRIMARY KEY, payload BLOB NOT NULL, day INTEGER NOT NULL) WITHOUT ROWID"
        )
        facts = dict(db.execute("SELECT name, value FROM facts"))
        if not facts:
            fresh = [("format", _FORMAT), ("stream", stream_identity), ("applied", "0")]
            db.executemany("INSERT OR IGNORE INTO facts VALUES (?, ?)", fresh)
            facts = dict(db.execute("SELECT name, value FROM facts"))
        if facts.get("format") != _FORMAT or facts.get("stream") != stream_identity:
            msg = f"{self.path}: made for another EVENTS or by another version"
            raise IndexUnusableError(msg)
        self.applied = int(facts["applied"])

    def known(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The payload hashes of those ``keys`` that are in the index. Raises sqlite3.Error."""
        assert self._db is not None
        found: dict[bytes, bytes] = {}
        start = 0
        for size in _SIZES:
            while len(keys) - start >= size:
                found.update(self._db.execute(_QUERIES[size], keys[start : start + size]))
                start += size
        return found

    def add(self, rows: Iterable[tuple[bytes, bytes]], applied: int, day: int) -> None:
        """Adds accepted events and moves ``applied``, together. Raises sqlite3.Error, having done neither."""
        db = self._db
        assert db is not None
        db.execute("BEGIN IMMEDIATE")
        try:
            db.executemany("INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", ((key, payload, day) for key, payload in rows))
            db.execute("UPDATE facts SET value = max(CAST(value AS INTEGER), ?) WHERE name = 'applied'", (applied,))
        except BaseException:
            db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")
        self.applied = max(self.applied, applied)

    def sweep(self, before_day: int, most: int) -> int:
        """Looks at the next ``most`` rows, round and round, and forgets those indexed before ``before_day``; returns how many."""
        db = self._db
        assert db is not None
        keys = [key for (key,) in db.execute("SELECT key FROM seen WHERE key > ? ORDER BY key LIMIT ?", (self._swept, most))]
        if not keys:
            self._swept = b""
            return 0
        first, self._swept = self._swept, keys[-1]
        gone = db.execute("DELETE FROM seen WHERE key > ? AND key <= ? AND day < ?", (first, keys[-1], before_day))
        return gone.rowcount

    def close(self) -> None:
        """Closes the file."""
        db, self._db = self._db, None
        if db is not None:
            try:
                db.close()
            except sqlite3.Error as error:
                log.warning("index.close_failed", error=repr(error))

    def destroy(self) -> None:
        """Closes and removes the file, to be built again."""
        self.close()
        self.applied, self._swept = 0, b""
        for suffix in ("", "-wal", "-shm", "-journal"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)
