"""What a request at the local door holds: records for the spool, and rejections with field-level errors."""

from dataclasses import dataclass
from typing import Any, Final

import orjson

from schemas.errors import FieldError, shown
from schemas.events import Event
from schemas.reading import read_event
from sidecar.content import treated_line
from sidecar.frames import Record
from sidecar.messages import MIXED
from streams.micro_batches import lines

JSON_TYPES: Final = frozenset({"application/json"})
NDJSON_TYPES: Final = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"})


@dataclass(frozen=True, slots=True)
class Rejection:
    """One event that cannot be accepted."""

    index: int
    """Its place among the request's events, from 0."""
    reason: str
    errors: tuple[FieldError, ...]

    def view(self) -> dict[str, Any]:
        """As the door answers it."""
        return {"index": self.index, "reason": self.reason, "errors": [error.model_dump() for error in self.errors]}


@dataclass(frozen=True, slots=True)
class Submission:
    """A request's events, judged one by one."""

    records: tuple[Record, ...]
    rejected: tuple[Rejection, ...]


def _events(body: bytes, *, ndjson: bool) -> list[bytes]:
    if ndjson:
        return lines(body)
    if body.lstrip()[:1] == b"[":
        try:
            items = orjson.loads(body)
        except orjson.JSONDecodeError:
            return [body]
        return [orjson.dumps(item) for item in items]
    return [body] if body.strip() else []


def read(body: bytes, *, ndjson: bool, tenant: str, agent: str) -> Submission:
    """The events of ``body``: one JSON object, a JSON array of them, or NDJSON. Each stands for itself.

    Agents that ``agent`` runs inside its own process may be spoken for: such an event travels as ``batch``.
    """
    records: list[Record] = []
    rejected: list[Rejection] = []
    for index, raw in enumerate(_events(body, ndjson=ndjson)):
        event = read_event(raw)
        if not isinstance(event, Event):
            rejected.append(Rejection(index, event.reason, event.errors))
        elif event.tenant.tenant_id != tenant:
            found = event.tenant.tenant_id
            error = FieldError(loc="$.tenant.tenant_id", msg=f"this sidecar speaks for tenant '{tenant}'", value=shown(found))
            rejected.append(Rejection(index, "tenant_mismatch", (error,)))
        else:
            kind = event.kind if event.run.agent_id == agent else MIXED
            records.append(Record(kind, str(event.event_id), treated_line(raw, event)))
    if not records and not rejected:
        rejected.append(Rejection(0, "empty", (FieldError(loc="$", msg="the body holds no event"),)))
    return Submission(tuple(records), tuple(rejected))
