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


def message(tenant: str, agent: str, records: Sequence[Record]) -> Message:
    """One event as plain JSON under its own id, several as NDJSON under an id derived from theirs."""
    if len(records) == 1:
        only = records[0]
        return Message(subjects.telemetry(tenant, agent, only.kind), only.line, only.event_id, {CONTENT_TYPE: JSON})
    kinds = {record.kind for record in records}
    kind = kinds.pop() if len(kinds) == 1 else MIXED
    return Message(
        subjects.telemetry(tenant, agent, kind),
        b"\n".join(record.line for record in records),
        str(derived_id("telemetry.batch", *(record.event_id for record in records))),
        {CONTENT_TYPE: NDJSON, EVENT_COUNT: str(len(records))},
    )
