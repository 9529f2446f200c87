"""From bytes to an event: any accepted version in, the current version or a rejection out."""

from dataclasses import dataclass
from math import isfinite
from typing import Any, Final

import orjson
from pydantic import ValidationError

from schemas.errors import FieldError, field_errors, shown
from schemas.events import Event
from schemas.v0 import EventV0, upcast

MAX_EVENT_BYTES: Final = 1_000_000
"""A door takes no single event and no batch above this."""

MAX_DEPTH: Final = 32


@dataclass(frozen=True, slots=True)
class Rejected:
    """These bytes will never be an event. ``reason`` is a stable word, ``errors`` says where."""

    reason: str
    errors: tuple[FieldError, ...]
    tenant_id: str | None = None
    event_type: str | None = None
    event_id: str | None = None


def _reject(reason: str, message: str, raw: bytes | None = None, value: Any = None) -> Rejected:
    return _identified(Rejected(reason, (FieldError(loc="$", msg=message, value=shown(value)),)), raw)


def _identified(rejected: Rejected, raw: bytes | None) -> Rejected:
    """Adds whose and what the rejected bytes claim to be, where that can be read."""
    if raw is None:
        return rejected
    try:
        claimed = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return rejected
    if not isinstance(claimed, dict):
        return rejected

    def text(value: Any) -> str | None:
        return value[:128] if isinstance(value, str) else None

    tenant = claimed.get("tenant")
    return Rejected(
        rejected.reason,
        rejected.errors,
        text(tenant.get("tenant_id")) if isinstance(tenant, dict) else None,
        text(claimed.get("event_type")),
        text(claimed.get("event_id")),
    )


def _flaw(value: Any, path: str = "$.attributes", depth: int = 0) -> tuple[str, FieldError] | None:
    """The first thing in an open map that JSON's readers behind us could not hold, with the reason for rejecting it."""
    if depth > MAX_DEPTH:
        return "contract_violation", FieldError(loc=path[:500], msg=f"nested deeper than {MAX_DEPTH}")
    if isinstance(value, str):
        return ("nul_byte", FieldError(loc=path[:500], msg="must not contain NUL characters")) if "\x00" in value else None
    if isinstance(value, dict):
        for key, item in value.items():
            if "\x00" in key:
                return "nul_byte", FieldError(loc=path[:500], msg="a name must not contain NUL characters")
            if not isinstance(item, bool) and (found := _flaw(item, f"{path}.{key[:120]}", depth + 1)) is not None:
                return found
    elif isinstance(value, list):
        for number, item in enumerate(value):
            if (found := _flaw(item, f"{path}[{number}]", depth + 1)) is not None:
                return found
    elif isinstance(value, float):
        if not isfinite(value):
            return "contract_violation", FieldError(loc=path[:500], msg="must be a finite number")
    elif isinstance(value, int) and not -(2**63) <= value < 2**64:
        return "contract_violation", FieldError(loc=path[:500], msg="must be an integer of at most 64 bits")
    return None


def _sound(event: Event, raw: bytes) -> Event | Rejected:
    """``event``, unless its attributes hold what cannot be stored."""
    if event.attributes and (found := _flaw(event.attributes)) is not None:
        return _identified(Rejected(found[0], (found[1],)), raw)
    return event


def read_event(raw: bytes) -> Event | Rejected:
    """The event in ``raw`` (JSON, v0 or v1), upcast to the current version; or why it is none."""
    if len(raw) > MAX_EVENT_BYTES:
        return _reject("too_large", f"an event may have at most {MAX_EVENT_BYTES:,} bytes, this has {len(raw):,}")
    if b"\x00" in raw:
        return _reject("nul_byte", "NUL bytes are not allowed in JSON")
    try:
        event = Event.model_validate_json(raw)
    except ValidationError as error:
        return _other_version(raw, error)
    return _sound(event, raw)


def _other_version(raw: bytes, error: ValidationError) -> Event | Rejected:
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as broken:
        return Rejected(
            "malformed_json", (FieldError(loc="$", msg=str(broken), value=shown(raw[:200].decode("utf-8", "replace"))),)
        )
    if not isinstance(value, dict):
        return _reject("not_an_object", "an event is a JSON object", value=value)
    version = value.get("event_version")
    if version == "v0":
        return _read_v0(raw)
    if version != "v1":
        found = FieldError(loc="$.event_version", msg="must be 'v1' (or 'v0', which is upcast)", value=shown(version))
        return _identified(Rejected("unknown_version", (found,)), raw)
    return _identified(Rejected("contract_violation", field_errors(error)), raw)


def _read_v0(raw: bytes) -> Event | Rejected:
    try:
        value = upcast(EventV0.model_validate_json(raw))
        # Before it is written again: what JSON's writers cannot hold would raise there.
        if (found := _flaw(value.get("attributes", {}))) is not None:
            return _identified(Rejected(found[0], (found[1],)), raw)
        return Event.model_validate_json(orjson.dumps(value))
    except ValidationError as error:
        return _identified(Rejected("contract_violation", field_errors(error)), raw)
