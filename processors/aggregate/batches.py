"""What one transaction applies: messages of the streams, taken apart into rows of tables."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa

from processors.aggregate import columns
from processors.aggregate.columns import Table
from processors.aggregate.lines import ATTRIBUTES, LEFT_OVER, Reader, Unreadable
from streams import subjects, topology
from streams.messages import Received, promised

_OF: Final[Mapping[str, Table]] = {
    subjects.beginning(subjects.ALL_LEDGER): columns.LEDGER,
    subjects.beginning(subjects.ALL_ALERTS): columns.ALERTS,
    subjects.beginning(subjects.ALL_DEAD): columns.DEAD,
    subjects.beginning(subjects.COVERED_VALIDATE): columns.COVERAGE,
}
_ACCOUNT: Final = subjects.beginning(subjects.COVERED_VALIDATE)
_EVENTS: Final = subjects.beginning(subjects.ALL_EVENTS)

_ATTRIBUTE_SCHEMA: Final = pa.schema(
    [
        ("tenant_id", pa.string()), ("event_id", pa.string()), ("key", pa.string()), ("value", pa.string()),
        ("value_type", pa.string()), ("stream_sequence", pa.int64()),
    ]
)  # fmt: skip
_TYPE_NAMES: Final = {
    str: "string",
    bool: "boolean",
    int: "number",
    float: "number",
    type(None): "null",
    dict: "object",
    list: "array",
}


@dataclass(frozen=True, slots=True)
class AppliedMessage:
    """What became of one message."""

    stream: str
    sequence: int
    subject: str
    events: int
    """How many its header promises; 1 for a message without such a header."""
    lines: int
    unreadable: int
    stored_ns: int

    @property
    def is_account(self) -> bool:
        """Whether it is a coverage record: it accounts for events and is none."""
        return subjects.beginning(self.subject) == _ACCOUNT


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows by table, and the messages they are of."""

    frames: dict[str, pa.Table] = field(default_factory=dict)
    """By table; with the columns of the table, in its order."""
    attributes: pa.Table | None = None
    applied: tuple[AppliedMessage, ...] = ()
    unreadable: tuple[tuple[str, Unreadable], ...] = ()
    """Stream and line of each that cannot be a row."""

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(frame.num_rows for frame in self.frames.values())


def table_of(subject: str) -> Table | None:
    """The table a message on ``subject`` fills."""
    parts = subject.split(".")
    return columns.EVENTS.get(parts[-1]) if parts[0] == _EVENTS else _OF.get(parts[0])


_EMPTY: Final = frozenset({None, "{}", "null"})


def _texts(column: pa.ChunkedArray) -> list[str | None]:
    """A JSON column as texts; none at all where all of it is empty, which is the usual case and must cost nothing."""
    if column.null_count == len(column):
        return []
    if isinstance(column.type, pa.BaseExtensionType):
        column = pa.chunked_array([chunk.storage for chunk in column.chunks])
    return [] if _EMPTY.issuperset(column.unique().to_pylist()) else column.to_pylist()


def _attributes(frames: Iterable[pa.Table]) -> pa.Table | None:
    rows: list[tuple[str, str, str, str, str, int]] = []
    for frame in frames:
        for name in (name for name in frame.column_names if name.startswith(LEFT_OVER)):
            for number, text in enumerate(_texts(frame.column(name))):
                if text is None or text in _EMPTY:
                    continue
                tenant, event_id = frame.column("tenant_id")[number].as_py(), str(frame.column("event_id")[number].as_py())
                sequence = frame.column("stream_sequence")[number].as_py()
                if name != ATTRIBUTES:
                    rows.append((tenant, event_id, name.removeprefix(LEFT_OVER), text, "section", sequence))
                    continue
                for key, value in json.loads(text).items():
                    told = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                    rows.append((tenant, event_id, key, told, _TYPE_NAMES[type(value)], sequence))
    if not rows:
        return None
    return pa.Table.from_arrays(
        [pa.array(column, kind) for column, kind in zip(zip(*rows, strict=True), _ATTRIBUTE_SCHEMA.types, strict=True)],
        schema=_ATTRIBUTE_SCHEMA,
    )


def _unknown(message: Received) -> Unreadable:
    return Unreadable(message, 0, message.data, f"no table for subject {message.subject}")


def compose(reader: Reader, messages: Mapping[str, Sequence[Received]]) -> Batch:
    """Takes ``messages`` (by stream) apart. What cannot be read is told in the batch, never raised."""
    groups: dict[tuple[str, str], tuple[Table, list[Received]]] = {}
    frames: dict[str, list[pa.Table]] = {}
    with_extra: list[pa.Table] = []
    applied: list[AppliedMessage] = []
    unreadable: list[tuple[str, Unreadable]] = []

    def account(stream: str, message: Received, lines: int, bad: int) -> None:
        applied.append(
            AppliedMessage(stream, message.sequence, message.subject, promised(message), lines, bad, message.stored_ns)
        )

    for stream, several in messages.items():
        for message in several:
            table = table_of(message.subject)
            if table is None:
                unreadable.append((stream, _unknown(message)))
                account(stream, message, 1, 1)
            else:
                groups.setdefault((stream, table.name), (table, []))[1].append(message)
    for (stream, _), (table, several) in groups.items():
        read = reader.read(table, several)
        bad = Counter(each.message.sequence for each in read.unreadable)
        unreadable += ((stream, each) for each in read.unreadable)
        if read.frame is not None:
            frames.setdefault(table.name, []).append(read.frame.select(list(table.column_names())))
            with_extra.append(read.frame)
        for message in several:
            account(stream, message, read.lines[message.sequence], bad[message.sequence])
    return Batch(
        {name: pa.concat_tables(parts) for name, parts in frames.items()},
        _attributes(with_extra),
        tuple(applied),
        tuple(unreadable),
    )


STREAMS: Final = (topology.EVENTS, topology.LEDGER, topology.ALERTS)
"""The streams the warehouse is made of."""
