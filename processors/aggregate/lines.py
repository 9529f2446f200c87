"""From NDJSON to typed rows: all at once where that works, line by line where it does not."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from processors.aggregate.columns import Column, Table
from processors.aggregate.values import ARROW_TYPES, UnfitValueError, fitted
from streams.messages import Received
from streams.micro_batches import lines

_SEQUENCE: Final = pa.field("stream_sequence", pa.int64())
_UUID: Final = r"\A[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\z"
_NO_ATTRIBUTES: Final = b'"attributes":{},"ingest":{'
_INGEST_BYTES: Final = 250
"""A line ends with its ``ingest`` section, which is shorter than this; before it come the attributes."""
_TYPE_NAMES: Final = {
    str: "string",
    bool: "boolean",
    int: "number",
    float: "number",
    type(None): "null",
    dict: "object",
    list: "array",
}

Extra = tuple[str, str, str, str, str, int]
"""What has no column of its own: tenant, event id, key, value, type of the value, stream sequence."""


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
    """Typed rows: the columns of the table in its order, ``stream_sequence`` last."""
    lines: dict[int, int]
    """Lines of each message, by sequence."""
    extras: tuple[Extra, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()


def _field(name: str, inner: Any) -> pa.Field:
    if isinstance(inner, dict):
        return pa.field(name, pa.struct([_field(*item) for item in inner.items()]))
    return pa.field(name, inner)


@dataclass(frozen=True, slots=True)
class Plan:
    """How lines of one table are parsed in bulk."""

    options: pj.ParseOptions
    sections: Mapping[tuple[str, ...], tuple[tuple[str, ...], ...]]
    """Of each section the paths of what is in it, in order; the whole event is the section ``()``."""
    left_over: tuple[tuple[str, ...], ...]
    """Paths of what is kept as an attribute where it is there."""


@lru_cache
def _plan(table: Table) -> Plan | None:
    """None: a table with open maps, which are not parsed in bulk; none of these is large."""
    if any(column.type == "pairs" for column in table.columns):
        return None
    parsed: dict[str, Any] = {}
    left_over = tuple(tuple(name.split(".")) for name in table.left_over)
    leaves = [(column.path, _parsed_as(column)) for column in table.columns]
    # Of a section only whether it is there: a struct without fields.
    for path, kind in [*leaves, *((path, _LOOSE.get(path, pa.struct([]))) for path in left_over)]:
        inner = parsed
        for part in path[:-1]:
            inner = inner.setdefault(part, {})
        inner[path[-1]] = kind
    options = pj.ParseOptions(
        explicit_schema=pa.schema([_field(*item) for item in parsed.items()]), unexpected_field_behavior="ignore"
    )
    return Plan(options, dict(_sections(parsed)), left_over)


def _sections(
    parsed: Mapping[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]]:
    yield path, tuple((*path, name) for name in parsed)
    for name, inner in parsed.items():
        if isinstance(inner, dict):
            yield from _sections(inner, (*path, name))


_LOOSE: Final[Mapping[tuple[str, ...], pa.DataType]] = {("run", "status"): pa.string(), ("run", "duration_ms"): pa.float64()}
"""What is left over and is no section."""


def _parsed_as(column: Column) -> pa.DataType:
    return pa.timestamp("us", "UTC") if column.type == "instant" else ARROW_TYPES[column.type]


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


def _told(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def extras_of(table: Table, event: Mapping[str, Any], sequence: int) -> Iterator[Extra]:
    """What of ``event`` has no column in ``table``."""
    if not table.left_over:
        return
    tenant, event_id = str(event["tenant"]["tenant_id"]), str(event["event_id"])
    for key, given in (event.get("attributes") or {}).items():
        yield tenant, event_id, key, _told(given), _TYPE_NAMES[type(given)], sequence
    for name in table.left_over:
        value: Any = event
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None and value != {}:
            yield tenant, event_id, name, json.dumps(value, ensure_ascii=False, separators=(",", ":")), "section", sequence


def read(table: Table, messages: Sequence[Received]) -> Rows:
    """Every line of ``messages`` as a row of ``table``; what cannot be one is told, never raised."""
    every: list[bytes] = []
    counts: dict[int, int] = {}
    for message in messages:
        split = lines(message.data)
        counts[message.sequence] = len(split)
        every += split
    if not every:
        return Rows(None, counts)
    plan = _plan(table)
    if plan is None:
        return _joined([_by_line(table, message) for message in messages])
    sequences = [sequence for sequence, count in counts.items() for _ in repeat(None, count)]
    try:
        frame, extras = _in_bulk(table, plan, every, sequences)
    except (pa.ArrowException, UnfitError):
        if len(messages) == 1:
            return _by_line(table, messages[0])
        return _joined([read(table, [message]) for message in messages])
    return Rows(frame, counts, extras)


def _in_bulk(table: Table, plan: Plan, every: list[bytes], sequences: list[int]) -> tuple[pa.Table, tuple[Extra, ...]]:
    data = b"\n".join(every)
    reading = pj.ReadOptions(use_threads=False, block_size=len(data) + 1)
    parsed = pj.read_json(pa.py_buffer(data), read_options=reading, parse_options=plan.options)
    if parsed.num_rows != len(every):
        raise UnfitError(f"{len(every)} lines gave {parsed.num_rows} rows")
    parts: dict[tuple[str, ...], pa.Array] = {}
    for section, paths in plan.sections.items():
        # Flattened, a section's own nulls reach its fields.
        arrays = [_whole(column) for column in parsed.columns] if not section else parts[section].flatten()
        parts.update(zip(paths, arrays, strict=True))
    columns = []
    for column in table.columns:
        array = parts[column.path]
        if column.type == "instant":
            # The same moments, as the warehouse keeps them: UTC without saying so.
            array = array.view(pa.timestamp("us"))
        elif column.type == "uuid" and not pc.all(pc.match_substring_regex(array, _UUID), min_count=0).as_py():
            raise UnfitError(f"{column.name} is no uuid")
        if column.required and array.null_count:
            raise UnfitError(f"{column.name} is missing")
        columns.append(array)
    columns.append(pa.array(sequences, pa.int64()))
    return pa.Table.from_arrays(columns, schema=row_schema(table)), tuple(_extras(table, plan, parts, every, sequences))


def _extras(
    table: Table, plan: Plan, parts: Mapping[tuple[str, ...], pa.Array], every: Sequence[bytes], sequences: Sequence[int]
) -> Iterator[Extra]:
    """Looks into those lines alone that have something without a column: usually none."""
    if not plan.left_over:
        return
    rows = {number for number, line in enumerate(every) if line.find(_NO_ATTRIBUTES, max(0, len(line) - _INGEST_BYTES)) < 0}
    for path in plan.left_over:
        array = parts[path]
        if array.null_count < len(array):
            rows.update(pc.indices_nonzero(array.is_valid()).to_pylist())
    for number in sorted(rows):
        # The standard library's parser: a number no machine type can hold stays what it is.
        yield from extras_of(table, json.loads(every[number]), sequences[number])


def _by_line(table: Table, message: Received) -> Rows:
    """Each line for itself: a value that does not fit its column is left out where the column may be empty."""
    rows: list[dict[str, Any]] = []
    extras: list[Extra] = []
    bad: list[Unreadable] = []
    every = lines(message.data)
    for position, raw in enumerate(every):
        try:
            event = json.loads(raw)
            if not isinstance(event, dict):
                raise UnfitError("not an object")
            row = {column.name: _value(column, event) for column in table.columns}
            more = list(extras_of(table, event, message.sequence))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            bad.append(Unreadable(message, position, raw, (str(error).splitlines() or ["unreadable"])[0][:500]))
            continue
        rows.append(row | {_SEQUENCE.name: message.sequence})
        extras += more
    frame = pa.Table.from_pylist(rows, schema=row_schema(table)) if rows else None
    return Rows(frame, {message.sequence: len(every)}, tuple(extras), tuple(bad))


def _value(column: Column, event: Mapping[str, Any]) -> Any:
    value: Any = event
    for part in column.path:
        value = value.get(part) if isinstance(value, Mapping) else None
    try:
        found = None if value is None else fitted(column.type, value)
    except UnfitValueError as error:
        if column.required:
            raise UnfitError(f"{'.'.join(column.path)}: {error}") from error
        return None
    if found is None and column.required:
        raise UnfitError(f"{'.'.join(column.path)} is missing")
    return found


@lru_cache
def row_schema(table: Table) -> pa.Schema:
    """The columns of ``table`` in its order, ``stream_sequence`` last."""
    return pa.schema([*(pa.field(column.name, ARROW_TYPES[column.type]) for column in table.columns), _SEQUENCE])


def _joined(parts: Sequence[Rows]) -> Rows:
    frames = [part.frame for part in parts if part.frame is not None]
    return Rows(
        pa.concat_tables(frames) if frames else None,
        {sequence: count for part in parts for sequence, count in part.lines.items()},
        tuple(extra for part in parts for extra in part.extras),
        tuple(bad for part in parts for bad in part.unreadable),
    )
