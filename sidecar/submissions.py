"""What a request at a door holds: records for the intake, and rejections with field-level errors."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final

import orjson

from privacy.letters import told
from privacy.rules import STRICTEST
from schemas.errors import FieldError, shown
from schemas.events import Event
from schemas.reading import Rejected, read_event
from sidecar.content import treated_line
from sidecar.frames import Record
from sidecar.messages import spoken_for
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
    event_id: str | None = None
    """What it calls itself, where that can be read."""

    def view(self) -> dict[str, Any]:
        """As the local door answers it."""
        return {"index": self.index, "reason": self.reason, "errors": [error.model_dump() for error in self.errors]}

    def logged(self) -> dict[str, str]:
        """As a door logs it: where the first error is, without what a sender may have named a field."""
        return {"reason": self.reason, "loc": told(self.errors, STRICTEST)[0].loc}


@dataclass(frozen=True, slots=True)
class Accepted:
    """Where a record came from."""

    index: int
    """Its place among the request's events, from 0."""
    agent: str
    """Whose event it is."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A request's events, judged one by one."""

    records: tuple[Record, ...]
    rejected: tuple[Rejection, ...]
    accepted: tuple[Accepted, ...] = ()
    """For each record."""


@dataclass(frozen=True, slots=True)
class Speaker:
    """For whom the sender may speak."""

    tenant: str
    agent: str | None = None
    """Whose spool this is; an event of another agent travels as ``batch``. None: each agent's events go by themselves."""
    agents: Collection[str] = ()
    """The only agents it may speak for; none named: any."""
    called: str = "this sidecar"

    def refusal(self, event: Event) -> tuple[str, FieldError] | None:
        """Why ``event`` is not the speaker's to send, with the reason's word."""
        if event.tenant.tenant_id != self.tenant:
            message = f"{self.called} speaks for tenant '{self.tenant}'"
            return "tenant_mismatch", FieldError(loc="$.tenant.tenant_id", msg=message, value=shown(event.tenant.tenant_id))
        if self.agents and event.run.agent_id not in self.agents:
            message = f"{self.called} speaks only for: {', '.join(sorted(self.agents)[:20])}"
            return "agent_mismatch", FieldError(loc="$.run.agent_id", msg=message, value=shown(event.run.agent_id))
        return None


def _again(item: Any) -> bytes | Rejected:
    try:
        return orjson.dumps(item)
    except TypeError:
        # It reads what is nested deeper than it writes.
        return Rejected("contract_violation", (FieldError(loc="$", msg="nested too deeply"),))


def parts(body: bytes, *, ndjson: bool) -> list[bytes | Rejected]:
    """What stands in ``body``, one by one: a JSON object, the items of an array, or the lines of NDJSON."""
    if ndjson:
        return list(lines(body))
    if body.lstrip()[:1] == b"[":
        try:
            items = orjson.loads(body)
        except orjson.JSONDecodeError:
            return [body]
        return [_again(item) for item in items]
    return [body] if body.strip() else []


def judge(raws: Iterable[bytes | Rejected], speaker: Speaker) -> Submission:
    """Each of ``raws`` by itself: a record, or why it is none."""
    records: list[Record] = []
    accepted: list[Accepted] = []
    rejected: list[Rejection] = []
    for index, raw in enumerate(raws):
        event = raw if isinstance(raw, Rejected) else read_event(raw)
        if isinstance(event, Rejected):
            rejected.append(Rejection(index, event.reason, event.errors, event.event_id))
        elif (refusal := speaker.refusal(event)) is not None:
            rejected.append(Rejection(index, refusal[0], (refusal[1],), str(event.event_id)))
        else:
            assert isinstance(raw, bytes)
            agent = event.run.agent_id
            kind = event.kind if speaker.agent in {None, agent} else spoken_for(event.kind)
            records.append(Record(kind, str(event.event_id), treated_line(raw, event)))
            accepted.append(Accepted(index, agent))
    if not records and not rejected:
        rejected.append(Rejection(0, "empty", (FieldError(loc="$", msg="the body holds no event"),)))
    return Submission(tuple(records), tuple(rejected), tuple(accepted))


def read(body: bytes, *, ndjson: bool, tenant: str, agent: str) -> Submission:
    """The events of ``body`` at the local door. Agents that ``agent`` runs inside its own process may be spoken for."""
    return judge(parts(body, ndjson=ndjson), Speaker(tenant, agent))
