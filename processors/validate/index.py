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

HELD_ROWS: Final = 20_000

_FORMAT: Final = "1"
_SIZES: Final = (512, 64, 8, 1)
_QUERIES: Final = {n: f"SELECT key, payload FROM seen WHERE key IN ({','.join('?' * n)})" for n in _SIZES}  # noqa: S608 - only question marks
_INSERT: Final = "INSERT OR IGNORE INTO seen VALUES (?, ?, ?)"
_INSERTED: Final = 500
_INSERT_MANY: Final = _INSERT + ", (?, ?, ?)" * (_INSERTED - 1)


class IndexUnusableError(Exception):
    """The file is damaged, or belongs to another EVENTS. Trying again does not help; a rebuild does."""


class DuplicateIndex:
    """Keys of accepted events with their payload hash and the day they were indexed.

    What is added waits in memory, at most ``HELD_ROWS`` of it, and is written in one go: a killed process finds it in
    EVENTS again. One process writes; a second one on the same file waits its turn, and both write the same truth.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.applied = 0
        """Every event on ``events.>`` up to this EVENTS sequence is known."""
        self._held: dict[bytes, bytes] = {}
        self._held_day = 0
        self._written = 0
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
        # Random keys touch the same pages again and again: copying them back less often halves the work.
        db.execute("PRAGMA wal_autocheckpoint=10000")
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
        self.applied = self._written = int(facts["applied"])

    def known(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The payload hashes of those ``keys`` that are in the index. Raises sqlite3.Error."""
        assert self._db is not None
        held = self._held
        found = {key: held[key] for key in keys if key in held} if held else {}
        start = 0
        for size in _SIZES:
            while len(keys) - start >= size:
                found.update(self._db.execute(_QUERIES[size], keys[start : start + size]))
                start += size
        return found

    def add(self, rows: Iterable[tuple[bytes, bytes]], applied: int, day: int) -> None:
        """Adds accepted events and moves ``applied``, together. Raises sqlite3.Error where it had to write and could not."""
        if day != self._held_day:
            self.flush()
            self._held_day = day
        for key, payload in rows:
            self._held.setdefault(key, payload)
        self.applied = max(self.applied, applied)
        if len(self._held) >= HELD_ROWS:
            self.flush()

    def flush(self) -> None:
        """Writes what is held, and how far it goes, in one transaction. Raises sqlite3.Error, having written nothing."""
        db = self._db
        if db is None or self._written == self.applied:
            return
        day = self._held_day
        db.execute("BEGIN IMMEDIATE")
        try:
            # In the order of the tree: neighbours share a page.
            rows = sorted(self._held.items())
            whole = len(rows) - len(rows) % _INSERTED
            for start in range(0, whole, _INSERTED):
                db.execute(_INSERT_MANY, [value for row in rows[start : start + _INSERTED] for value in (*row, day)])
            db.executemany(_INSERT, ((key, payload, day) for key, payload in rows[whole:]))
            db.execute("UPDATE facts SET value = max(CAST(value AS INTEGER), ?) WHERE name = 'applied'", (self.applied,))
        except BaseException:
            db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")
        self._written = self.applied
        self._held.clear()

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
        """Writes what is held and closes the file; what cannot be written is found in EVENTS again."""
        db = self._db
        if db is not None:
            try:
                self.flush()
                db.close()
            except sqlite3.Error as error:
                log.warning("index.close_failed", error=repr(error))
        self._db = None
        self._held.clear()

    def destroy(self) -> None:
        """Closes and removes the file, to be built again."""
        self._held.clear()
        self._written = self.applied
        self.close()
        self.applied, self._written, self._swept = 0, 0, b""
        for suffix in ("", "-wal", "-shm", "-journal"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)
