"""From NDJSON to typed rows: all at once where that works, line by line where it does not."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import duckdb
import pyarrow as pa

from processors.aggregate.columns import Column, Table, Type
from streams.messages import Received
from streams.micro_batches import lines

LEFT_OVER: Final = "left_over:"
"""Prefix of the columns that hold, as JSON text, what has no column of its own."""
ATTRIBUTES: Final = f"{LEFT_OVER}attributes"

_READ_AS: Final[Mapping[Type, Any]] = {
    "text": "VARCHAR",
    "instant": "TIMESTAMP",
    "uuid": "UUID",
    "usd": "DECIMAL(18,9)",
    "integer": "BIGINT",
    "number": "DOUBLE",
    "flag": "BOOLEAN",
    "texts": ["VARCHAR"],
    "pairs": "MAP(VARCHAR,VARCHAR)",
    "checks": [
        {"name": "VARCHAR", "kind": "VARCHAR", "ok": "BOOLEAN", "consecutive_failures": "BIGINT", "latency_ms": "DOUBLE",
         "error": "VARCHAR"},
    ],
    "samples": [{"name": "VARCHAR", "value": "DOUBLE", "unit": "VARCHAR"}],
}  # fmt: skip


_FEW: Final = 64
_SEVERAL: Final = 2000
"""Up to so many lines copying them once more costs less than planning the statement again."""
"""Up to so many lines are handed over in the statement's own text."""


class UnfitError(ValueError):
    """These lines do not give the rows they promise. Line by line shows which; trying again does not help."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """One line that will never be a row."""

    message: Received
    position: int
    """Its place in the message, from 0."""
    raw: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Rows:
    """What messages of one table gave."""

    frame: pa.Table | None
    """Typed rows with ``stream_sequence``, and the ``left_over:`` columns of tables that have them."""
    lines: dict[int, int]
    """Lines of each message, by sequence."""
    unreadable: tuple[Unreadable, ...] = ()


def _quoted(path: Sequence[str]) -> str:
    return ".".join(f'"{part}"' for part in path)


def _value(column: Column) -> str:
    field = f"j.{_quoted(column.path)}"
    return f"map_entries({field})" if column.type == "pairs" else field


@lru_cache
def _statement(table: Table, given: str) -> str:
    """Selects every column of ``table`` from the relation ``given(line, stream_sequence)``."""
    structure: dict[str, Any] = {}
    extra = {f"{LEFT_OVER}{name}": tuple(name.split(".")) for name in ("attributes", *table.left_over) if table.left_over}
    leaves = [(column.path, _READ_AS[column.type]) for column in table.columns]
    for path, kind in [*leaves, *((path, "JSON") for path in extra.values())]:
        inner = structure
        for part in path[:-1]:
            inner = inner.setdefault(part, {})
        inner[path[-1]] = kind
    selected = [f'{_value(column)} AS "{column.name}"' for column in table.columns]
    selected += [f'j.{_quoted(path)} AS "{name}"' for name, path in extra.items()]
    return (
        f"SELECT {', '.join(selected)}, stream_sequence "  # noqa: S608
        f"FROM (SELECT from_json(line, '{json.dumps(structure)}') AS j, stream_sequence FROM {given})"
    )


def _literal(line: bytes) -> str:
    return "'" + line.decode().replace("'", "''") + "'"


class Reader:
    """Turns messages into typed rows, with a DuckDB of its own in memory; for one thread at a time."""

    def __init__(self) -> None:
        self._engine = duckdb.connect(":memory:", config={"threads": 1, "arrow_lossless_conversion": True})
        self._engine.execute("CREATE TABLE few (line VARCHAR, stream_sequence BIGINT)")
        self._prepared: set[str] = set()

    def close(self) -> None:
        """Lets the memory go."""
        self._engine.close()

    def read(self, table: Table, messages: Sequence[Received]) -> Rows:
        """Every line of ``messages`` as a row of ``table``; what cannot be one is told, never raised."""
        every: list[bytes] = []
        counts: dict[int, int] = {}
        for message in messages:
            split = lines(message.data)
            counts[message.sequence] = len(split)
            every += split
        if not every:
            return Rows(None, counts)
        sequences = [sequence for sequence, count in counts.items() for _ in range(count)]
        try:
            return Rows(self._frame(table, every, sequences), counts)
        except (duckdb.Error, pa.ArrowException, UnicodeDecodeError, UnfitError):
            if len(messages) == 1:
                return self._by_line(table, messages[0], every)
            return _joined([self.read(table, [message]) for message in messages])

    def _frame(self, table: Table, every: list[bytes], sequences: list[int]) -> pa.Table:
        frame = self._few(table, every, sequences) if len(every) <= _FEW else self._many(table, every, sequences)
        for column in table.columns:
            if column.required and frame.column(column.name).null_count:
                raise UnfitError(f"{column.name} is missing or no {column.type}")
        return frame

    def _many(self, table: Table, every: list[bytes], sequences: list[int]) -> pa.Table:
        text = pa.array(every, pa.binary()).cast(pa.string())
        self._engine.register("given", pa.table({"line": text, "stream_sequence": pa.array(sequences, pa.int64())}))
        try:
            if len(every) > _SEVERAL:
                return self._engine.execute(_statement(table, "given")).to_arrow_table()
            return self._planned_once(table, "INSERT INTO few SELECT line, stream_sequence FROM given")
        finally:
            self._engine.unregister("given")

    def _few(self, table: Table, every: list[bytes], sequences: list[int]) -> pa.Table:
        """The same without a table of Arrow's in between."""
        rows = ",".join(f"({_literal(line)},{sequence})" for line, sequence in zip(every, sequences, strict=True))
        return self._planned_once(table, f"INSERT INTO few VALUES {rows}")  # noqa: S608

    def _planned_once(self, table: Table, filling: str) -> pa.Table:
        """Reads what ``filling`` puts into ``few``, with a statement planned once: planning is what costs where there is little to read."""
        if table.name not in self._prepared:
            self._engine.execute(f'PREPARE "{table.name}" AS {_statement(table, "few")}')
            self._prepared.add(table.name)
        self._engine.execute("BEGIN")
        try:
            self._engine.execute(filling)
            return self._engine.execute(f'EXECUTE "{table.name}"').to_arrow_table()
        finally:
            # Never committed: deleted rows of a table in memory would stay in memory.
            self._engine.execute("ROLLBACK")

    def _by_line(self, table: Table, message: Received, every: Sequence[bytes]) -> Rows:
        good: list[pa.Table] = []
        bad: list[Unreadable] = []
        for position, raw in enumerate(every):
            try:
                good.append(self._frame(table, [raw], [message.sequence]))
            except (duckdb.Error, pa.ArrowException, UnicodeDecodeError, UnfitError) as error:
                bad.append(Unreadable(message, position, raw, (str(error).splitlines() or ["unreadable"])[0][:500]))
        return Rows(pa.concat_tables(good) if good else None, {message.sequence: len(every)}, tuple(bad))


def _joined(parts: Sequence[Rows]) -> Rows:
    frames = [part.frame for part in parts if part.frame is not None]
    return Rows(
        pa.concat_tables(frames) if frames else None,
        {sequence: count for part in parts for sequence, count in part.lines.items()},
        tuple(bad for part in parts for bad in part.unreadable),
    )
