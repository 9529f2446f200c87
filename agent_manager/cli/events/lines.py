"""NDJSON lines judged before they are sent: the event and its subject, or where it is wrong. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import orjson

from schemas.errors import FieldError
from schemas.events import KIND_OF
from schemas.ids import is_token
from schemas.reading import Rejected, read_event
from streams import subjects


@dataclass(frozen=True, slots=True)
class Line:
    """One event as it will be published: the very bytes that were read."""

    number: int
    """In the file, from 1."""
    data: bytes
    tenant_id: str
    agent_id: str
    kind: str
    message_id: str | None

    @property
    def subject(self) -> str:
        return subjects.telemetry(self.tenant_id, self.agent_id, self.kind)


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no event."""

    number: int
    reason: str
    errors: tuple[FieldError, ...]

    def sentences(self) -> list[str]:
        """``line 3: $.resource_usage.input_tokens: …``, one for each field."""
        return [f"line {self.number}: {error.told()}" for error in self.errors] or [f"line {self.number}: {self.reason}"]


def checked(number: int, raw: bytes) -> Line | BadLine:
    """The event on one line, or every field that is wrong with it."""
    event = read_event(raw)
    if isinstance(event, Rejected):
        return BadLine(number, event.reason, event.errors)
    return Line(number, raw, event.tenant.tenant_id, event.run.agent_id, event.kind, str(event.event_id))


def as_is(number: int, raw: bytes, tenant: str, agent: str) -> Line:
    """One line to be sent unjudged; ``tenant`` and ``agent`` stand in for what cannot be read from it."""
    claimed = _object(raw)

    def said(section: str, name: str, otherwise: str) -> str:
        value = _mapping(claimed.get(section)).get(name)
        return value if isinstance(value, str) and is_token(value) else otherwise

    event_type, event_id = claimed.get("event_type"), claimed.get("event_id")
    kind = KIND_OF.get(event_type, subjects.UNKNOWN) if isinstance(event_type, str) else subjects.UNKNOWN
    return Line(
        number, raw, said("tenant", "tenant_id", tenant), said("run", "agent_id", agent), kind,
        event_id[:128] if isinstance(event_id, str) and event_id.isascii() and event_id.isprintable() else None,
    )  # fmt: skip


def _object(raw: bytes) -> dict[str, Any]:
    try:
        return _mapping(orjson.loads(raw))
    except orjson.JSONDecodeError:
        return {}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def numbered(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers."""
    for number, line in enumerate(file, start=1):
        if stripped := line.strip(_BLANK):
            yield number, stripped


_BLANK: Final = b" \t\r\n"
