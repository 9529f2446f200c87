"""The warehouse: one DuckDB file, opened here alone; rows and offsets change together or not at all."""

import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa

from processors.aggregate import folding, rollups
from processors.aggregate.batches import Batch
from processors.aggregate.migrating import (
    AlteredWarehouseError,
    Migration,
    NewerWarehouseError,
    load,
    migrate,
)

_APPLIED: Final = pa.schema(
    [
        ("stream", pa.string()), ("sequence", pa.int64()), ("subject", pa.string()), ("events", pa.int64()),
        ("lines", pa.int64()), ("unreadable", pa.int64()), ("stored_at", pa.timestamp("us")), ("applied_at", pa.timestamp("us")),
    ]
)  # fmt: skip


_NAME: Final = "warehouse"
_USE: Final = f"USE {_NAME}"
_ROW_GROUP: Final = 30_720
"""Rows that are compressed together, a multiple of 2,048. Folding the log into the file compresses each table's last, unfinished
group anew, so a quarter of DuckDB's own size costs a quarter."""
_STORAGE: Final = "v1.5.0"
"""Text is compressed by one method that looks once, where older formats try several. A file of an older format becomes one of this."""


class WarehouseUnusableError(Exception):
    """The file cannot be used as it is. Trying again does not help; the message names the file and what to do."""


class WarehouseLockedError(Exception):
    """Another process has the file open. Trying again helps once it has ended."""


@dataclass(frozen=True, slots=True)
class Offset:
    """How far one stream is applied."""

    stream: str
    stream_created: datetime
    """When the stream itself was created: a stream made anew under the same name is another one."""
    applied_sequence: int
    applied_at: datetime
    messages: int
    events: int
    rows: int


@dataclass(frozen=True, slots=True)
class Resources:
    """What DuckDB may use."""

    threads: int = 2
    memory: str = "512MB"
    wal: str = "32MB"
    """Size of the write-ahead log after which it is folded into the file."""


def naive(moment: datetime) -> datetime:
    """A moment as the warehouse keeps it: UTC without saying so."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def _connect(path: Path, resources: Resources) -> duckdb.DuckDBPyConnection:
    # Attached, not opened: only so can the size of row groups be said.
    connection = duckdb.connect(
        config={
            "threads": resources.threads,
            "memory_limit": resources.memory,
            "temp_directory": str(path.parent / "spill"),
            "checkpoint_threshold": resources.wal,
            "autoinstall_known_extensions": False,
            # DuckDB takes few rows on the left of an ASOF join for granted where it cannot know, and then compares each with all:
            # the audit of a million events took minutes. Sorting both sides is never slow.
            "asof_loop_join_threshold": 0,
        }
    )
    literal = str(path).replace("'", "''")
    try:
        connection.execute(f"ATTACH '{literal}' AS {_NAME} (ROW_GROUP_SIZE {_ROW_GROUP}, STORAGE_VERSION '{_STORAGE}')")
        connection.execute(_USE)
    except BaseException:
        connection.close()
        raise
    return connection


class Warehouse:
    """The open file. One thread at a time applies; any thread may ask on a cursor of its own."""

    def __init__(self, path: Path, connection: duckdb.DuckDBPyConnection) -> None:
        self.path = path
        self._connection = connection
        self._asking = _also(connection)
        # Of this connection alone, which only appends: there is nothing to optimise, and planning is half of a small insert.
        connection.execute("PRAGMA disable_optimizer")
        self._lock = threading.Lock()
        self._folding = threading.Lock()
        self._last = {table: _last_sequence(connection, table) for table in rollups.STREAM_OF}

    @classmethod
    def open(
        cls, path: Path, at: datetime, resources: Resources | None = None, migrations: tuple[Migration, ...] | None = None
    ) -> "Warehouse":
        """Opens or creates the file and migrates it. Raises WarehouseLockedError or WarehouseUnusableError."""
        aside = "move it (and its .wal) away and start again: a new one is filled from the streams"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = _connect(path, resources or Resources())
        except PermissionError as error:
            raise WarehouseUnusableError(f"no permission for {path}: fix it, or choose another data directory") from error
        except duckdb.Error as error:
            told = str(error).splitlines()[0]
            if "could not set lock" in told.lower():
                raise WarehouseLockedError(f"{path} is open in another process: {told}") from error
            if "permission" in told.lower():
                raise WarehouseUnusableError(f"no permission for {path}: fix it, or choose another data directory") from error
            raise WarehouseUnusableError(f"{path} cannot be read ({told}); {aside}") from error
        try:
            migrate(connection, migrations or load(), naive(at))
            return cls(path, connection)
        except (NewerWarehouseError, AlteredWarehouseError) as error:
            connection.close()
            raise WarehouseUnusableError(f"{path}: {error}") from error
        except duckdb.Error as error:
            connection.close()
            raise WarehouseUnusableError(f"{path} cannot be read ({str(error).splitlines()[0]}); {aside}") from error

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection for asking, to be closed by who asked for it."""
        with self._lock:
            return _also(self._asking)

    def offsets(self) -> dict[str, Offset]:
        """How far each stream is applied."""
        with self.cursor() as cursor:
            rows = cursor.execute(
                "SELECT stream, stream_created, applied_sequence, applied_at, messages, events, rows FROM offsets"
            ).fetchall()
        return {row[0]: Offset(row[0], row[1].replace(tzinfo=UTC), row[2], row[3].replace(tzinfo=UTC), *row[4:]) for row in rows}

    def apply(self, batch: Batch, created: dict[str, datetime], at: datetime) -> None:
        """Stores all of ``batch`` and moves the offsets of its streams, in one transaction.

        ``created`` names the streams' own ages, ``at`` is now. Nothing is stored when it raises.
        """
        connection = self._connection
        reached: dict[str, int] = {}
        for message in batch.applied:
            reached[message.stream] = max(message.sequence, reached.get(message.stream, 0))
        by_stream = {stream.lower(): sequence for stream, sequence in reached.items()}
        for table, stream in rollups.STREAM_OF.items():
            if table in batch.frames:
                # Before any of it can be seen: whoever sees the rows finds the table named by ``beyond``.
                self._last[table] = by_stream[stream]
        connection.execute("BEGIN")
        try:
            for table, frame in batch.frames.items():
                _insert(connection, table, frame)
            if batch.attributes is not None:
                _insert(connection, "event_attributes", batch.attributes)
            _insert(connection, "applied_messages", _messages(batch, naive(at)))
            self._move(batch, created, naive(at))
            connection.execute("COMMIT")
        except BaseException:
            # The failure itself may have ended the transaction.
            with suppress(duckdb.Error):
                connection.execute("ROLLBACK")
            raise

    def _move(self, batch: Batch, created: dict[str, datetime], at: datetime) -> None:
        for stream in dict.fromkeys(message.stream for message in batch.applied):
            own = [message for message in batch.applied if message.stream == stream]
            last = max(message.sequence for message in own)
            events = sum(message.events for message in own if not message.is_account)
            rows = sum(message.lines - message.unreadable for message in own if not message.is_account)
            known = self._connection.execute(
                "UPDATE offsets SET applied_sequence = ?, applied_at = ?, messages = messages + ?, events = events + ?, "
                "rows = rows + ? WHERE stream = ?",
                [last, at, len(own), events, rows, stream],
            ).fetchone()
            if known is None or known[0] == 0:
                self._connection.execute(
                    "INSERT INTO offsets VALUES (?, ?, ?, ?, ?, ?, ?)",
                    [stream, naive(created[stream]), last, at, len(own), events, rows],
                )

    def beyond(self, folded: Mapping[str, int]) -> frozenset[str]:
        """The tables that may hold rows which the sums do not, in a transaction that has found them to go as far as ``folded``."""
        return frozenset(
            table for table, stream in rollups.STREAM_OF.items() if self._last[table] > folded[rollups.position_of(stream)]
        )

    def fold(self) -> int:
        """Folds what is stored into sums; returns how many rows. May run beside ``apply``: what is stored meanwhile comes next time."""
        with self._folding:
            with self._lock:
                connection = _also(self._connection)
            try:
                return folding.fold(connection)
            finally:
                connection.close()

    def checkpoint(self) -> None:
        """Folds the write-ahead log into the file."""
        self._connection.execute(f"CHECKPOINT {_NAME}")

    def close(self) -> None:
        """Closes the file; what was applied is in it."""
        self._asking.close()
        self._connection.close()


def _also(connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """Another connection to the same file: what ``connection`` has set for itself does not go with it."""
    cursor = connection.cursor()
    cursor.execute(_USE)
    return cursor


def _last_sequence(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    found = connection.execute(f"SELECT coalesce(max(stream_sequence), 0) FROM {table}").fetchone()  # noqa: S608
    assert found is not None
    return int(found[0])


def _insert(connection: duckdb.DuckDBPyConnection, table: str, rows: pa.Table) -> None:
    """Appends ``rows``, whose columns are named as those of ``table``.

    DuckDB finds ``stream`` by its name here. As a bare stream rows are read as they are; a table would be scanned through
    Arrow's own query engine, which for a few wide rows takes as long as storing them.
    """
    stream = rows.__arrow_c_stream__()  # noqa: F841
    connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM stream")  # noqa: S608


def _messages(batch: Batch, at: datetime) -> pa.Table:
    applied = batch.applied
    return pa.Table.from_arrays(
        [
            pa.array([message.stream for message in applied], pa.string()),
            pa.array([message.sequence for message in applied], pa.int64()),
            pa.array([message.subject for message in applied], pa.string()),
            pa.array([message.events for message in applied], pa.int64()),
            pa.array([message.lines for message in applied], pa.int64()),
            pa.array([message.unreadable for message in applied], pa.int64()),
            pa.array([message.stored_ns // 1000 for message in applied], pa.int64()).cast(pa.timestamp("us")),
            pa.array([at] * len(applied), pa.timestamp("us")),
        ],
        schema=_APPLIED,
    )
