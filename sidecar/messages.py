"""How spooled records become one NATS message."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from schemas.ids import derived_id
from sidecar.frames import Record
from streams import subjects
from streams.messages import CONTENT_TYPE, EVENT_COUNT, JSON, NDJSON

MIXED: Final = "batch"


@dataclass(frozen=True, slots=True)
class Message:
    """One message for ``telemetry.``; the same records always make the same message id."""

    subject: str
    data: bytes
    message_id: str
    headers: dict[str, str]


def spoken_for(kind: str) -> str:
    """``batch.<kind>``: the kind of a record that is of another agent than the subject will name."""
    return f"{MIXED}.{kind}"


def own_kind(record: Record) -> str:
    """The event's own kind, also where another agent's."""
    return record.kind.removeprefix(f"{MIXED}.")


def message(tenant: str, agent: str, records: Sequence[Record]) -> Message:
    """One event as plain JSON under its own id, several as NDJSON under an id derived from theirs."""
    # A subject names one agent; only kind ``batch`` may carry several.
    kinds = {record.kind.partition(".")[0] for record in records}
    if len(records) == 1:
        only = records[0]
        return Message(subjects.telemetry(tenant, agent, kinds.pop()), only.line, only.event_id, {CONTENT_TYPE: JSON})
    kind = kinds.pop() if len(kinds) == 1 else MIXED
    return Message(
        subjects.telemetry(tenant, agent, kind),
        b"\n".join(record.line for record in records),
        str(derived_id("telemetry.batch", *(record.event_id for record in records))),
        {CONTENT_TYPE: NDJSON, EVENT_COUNT: str(len(records))},
    )
