"""What must not be forgotten when the manager is killed: outcomes of commands, and records not yet published.

One SQLite file. An outcome and its audit record are written together, before the command is acknowledged: delivered
again, it is answered from here and not carried out a second time.
"""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Self

KEPT: Final = timedelta(days=1)
"""Commands expire long before this."""
MOST_WAITING: Final = 100_000
"""Records that may wait for NATS; beyond it new ones are refused and counted."""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS outcomes (command TEXT PRIMARY KEY, at REAL NOT NULL, response BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outbox (
    id INTEGER PRIMARY KEY, subject TEXT NOT NULL, message_id TEXT NOT NULL, headers TEXT NOT NULL, data BLOB NOT NULL
);
"""


class JournalError(RuntimeError):
    """The journal cannot be used. The message says what to do."""


class JournalFullError(RuntimeError):
    """Too much waits for NATS. Trying again helps once NATS is back."""


@dataclass(frozen=True, slots=True)
class Record:
    """One message to be published."""

    subject: str
    message_id: str
    data: bytes
    headers: Mapping[str, str]


class Journal:
    """The open journal. Calls take well under a millisecond: written to the system, not flushed to the disk."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    @classmethod
    def open(cls, path: Path) -> Self:
        """The journal at ``path``, created if need be; raises JournalError."""
        connection: sqlite3.Connection | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(path, isolation_level=None)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.executescript(_SCHEMA)
        except (sqlite3.Error, OSError) as error:
            if connection is not None:
                connection.close()
            msg = (
                f"the manager's journal {path} is not usable: {error}. Move it away, or choose another data directory with --data"
            )
            raise JournalError(msg) from error
        return cls(connection)

    def outcome(self, command: str) -> bytes | None:
        """The response once given to ``command``."""
        row = self._db.execute("SELECT response FROM outcomes WHERE command = ?", (command,)).fetchone()
        return None if row is None else bytes(row[0])

    def finish(self, command: str, response: bytes, records: tuple[Record, ...], now: datetime) -> None:
        """Remembers an outcome and puts ``records`` in the outbox, both or neither."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.execute("INSERT OR IGNORE INTO outcomes VALUES (?, ?, ?)", (command, now.timestamp(), response))
            self._db.execute("DELETE FROM outcomes WHERE at < ?", ((now - KEPT).timestamp(),))
            for record in records:
                self._insert(record)
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def put(self, record: Record) -> None:
        """Puts ``record`` in the outbox; raises JournalFullError."""
        if self.waiting() >= MOST_WAITING:
            msg = f"{MOST_WAITING} records wait for NATS"
            raise JournalFullError(msg)
        self._insert(record)

    def _insert(self, record: Record) -> None:
        self._db.execute(
            "INSERT INTO outbox (subject, message_id, headers, data) VALUES (?, ?, ?, ?)",
            (record.subject, record.message_id, json.dumps(dict(record.headers)), record.data),
        )

    def first(self) -> tuple[int, Record] | None:
        """The oldest record in the outbox, with its number."""
        row = self._db.execute("SELECT id, subject, message_id, headers, data FROM outbox ORDER BY id LIMIT 1").fetchone()
        return None if row is None else (row[0], Record(row[1], row[2], bytes(row[4]), json.loads(row[3])))

    def published(self, number: int) -> None:
        """Takes a record out of the outbox."""
        self._db.execute("DELETE FROM outbox WHERE id = ?", (number,))

    def waiting(self) -> int:
        """How many records wait."""
        count: int = self._db.execute("SELECT count(*) FROM outbox").fetchone()[0]
        return count

    def close(self) -> None:
        """Closes the file."""
        self._db.close()
