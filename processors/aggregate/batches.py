"""What one transaction applies: messages of the streams, taken apart into rows of tables."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa

from processors.aggregate import columns
from processors.aggregate.columns import Table
from processors.aggregate.lines import Extra, Unreadable, read
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


def _attributes(extras: Sequence[Extra]) -> pa.Table | None:
    if not extras:
        return None
    return pa.Table.from_arrays(
        [pa.array(column, kind) for column, kind in zip(zip(*extras, strict=True), _ATTRIBUTE_SCHEMA.types, strict=True)],
        schema=_ATTRIBUTE_SCHEMA,
    )


def _unknown(message: Received) -> Unreadable:
    return Unreadable(message, 0, message.data, f"no table for subject {message.subject}")


def compose(messages: Mapping[str, Sequence[Received]]) -> Batch:
    """Takes ``messages`` (by stream) apart. What cannot be read is told in the batch, never raised."""
    groups: dict[tuple[str, str], tuple[Table, list[Received]]] = {}
    frames: dict[str, list[pa.Table]] = {}
    extras: list[Extra] = []
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
        rows = read(table, several)
        bad = Counter(each.message.sequence for each in rows.unreadable)
        unreadable += ((stream, each) for each in rows.unreadable)
        if rows.frame is not None:
            frames.setdefault(table.name, []).append(rows.frame)
        extras += rows.extras
        for message in several:
            account(stream, message, rows.lines[message.sequence], bad[message.sequence])
    return Batch(
        {name: pa.concat_tables(parts) for name, parts in frames.items()},
        _attributes(extras),
        tuple(applied),
        tuple(unreadable),
    )


STREAMS: Final = (topology.EVENTS, topology.LEDGER, topology.ALERTS)
"""The streams the warehouse is made of."""
