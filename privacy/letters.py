"""What may be kept of bytes that were rejected: they may hold anything, and nobody has read them as an event."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import orjson

from privacy.fields import NAMES, TEXTS
from privacy.redaction import Tally, redact
from privacy.rules import Rules
from privacy.treatment import treat
from privacy.values import Cleaner
from schemas.errors import FieldError
from schemas.events import Event
from schemas.v0 import EventV0

_KNOWN: Final = frozenset((*Event.model_fields, *EventV0.model_fields, "ingest"))
_LONGEST: Final = 256 * 1024
_MOST_LINES: Final = 1_000
"""Rejected bytes beyond these are not worth the time to look through: they are withheld, unless the tenant keeps everything."""
_ROOT: Final = "$"


@dataclass(frozen=True, slots=True)
class AsSent:
    """Nothing in the bytes is anybody's business: they stay as they are."""


@dataclass(frozen=True, slots=True)
class Changed:
    """The bytes with what may not be kept taken out."""

    raw: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Withheld:
    """They cannot be told apart from content: none of them is kept."""

    reason: str


def _sections(event: dict[str, Any], rules: Rules) -> dict[str, Any]:
    """Everything in ``event`` that the contract's own treatment does not look at: rejected, it may be anywhere."""
    cleaner = Cleaner(rules, Tally())
    looked: dict[str, Any] = {}
    for name, value in event.items():
        if name == "attributes" and isinstance(value, dict):
            looked[name] = value
        elif name in _KNOWN and not (rules.drops_content and isinstance(value, str) and (name in TEXTS or name in NAMES)):
            looked[name] = cleaner.value(value, name)
        elif rules.drops_content and isinstance(value, str | list | dict):
            size = len(value.encode()) if isinstance(value, str) else len(orjson.dumps(value))
            looked[cleaner.key(name)] = f"[DROPPED {size:,} bytes]"
        else:
            looked[cleaner.key(name)] = cleaner.value(value, name)
    return looked


def _line(raw: bytes, rules: Rules) -> bytes | None:
    """One rejected event as it may be kept; None where nothing of it may."""
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return _text(raw, rules)
    if isinstance(found, dict):
        treated = treat(_sections(found, rules), rules).event
        return raw if treated == found and not _repeats(raw) else orjson.dumps(treated)
    if rules.drops_content and isinstance(found, str | list):
        return None
    cleaned = Cleaner(rules, Tally()).value(found, "")
    return raw if cleaned == found else orjson.dumps(cleaned)


class _RepeatedError(ValueError):
    """A name stands twice in one object: what it said first, its reader did not see."""


def _apart(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) < len(pairs):
        raise _RepeatedError


def _repeats(raw: bytes) -> bool:
    """Whether ``raw`` says more than its reader found."""
    try:
        json.loads(raw, object_pairs_hook=_apart)
    except (ValueError, RecursionError):
        return True
    return False


def _text(raw: bytes, rules: Rules) -> bytes | None:
    """Bytes that are no JSON: where content is dropped, nothing says which of them are content."""
    try:
        text, written = raw.decode(), "utf-8"
    except UnicodeDecodeError:
        if rules.drops_content:
            return None
        # What is no text is looked through letter by letter all the same: what is looked for is ASCII.
        text, written = raw.decode("latin-1"), "latin-1"
    if rules.drops_content and len(text) > _SHORT:
        return None
    cleaned = redact(text, rules, Tally())
    return raw if cleaned == text else cleaned.encode(written)


_SHORT: Final = 64
"""Of broken JSON so much is kept where content is dropped: enough to see what it began as, too little for a prompt."""


def original(raw: bytes, rules: Rules) -> AsSent | Changed | Withheld:
    """What may be kept of ``raw``: one rejected event, or a message of several on lines of their own."""
    if len(raw) > _LONGEST or raw.count(b"\n") > _MOST_LINES:
        return Withheld("too large to be looked through") if rules.mode != "full" else AsSent()
    lines = raw.split(b"\n") if b"\n" in raw and not _is_json(raw) else [raw]
    kept: list[bytes] = []
    withheld = changed = 0
    for line in lines:
        made = _line(line, rules) if line.strip() else line
        if made is None:
            withheld += 1
            kept.append(b"")
        else:
            changed += made != line
            kept.append(made)
    if withheld == len(lines):
        return Withheld("no event, and this tenant's content is dropped" if rules.drops_content else "no text")
    if withheld or changed:
        return Changed(b"\n".join(kept), "by the content policy")
    return AsSent()


def _is_json(raw: bytes) -> bool:
    try:
        orjson.loads(raw)
    except orjson.JSONDecodeError:
        return False
    return True


def told(errors: Iterable[FieldError], rules: Rules) -> tuple[FieldError, ...]:
    """Field errors whose paths and values hold nothing that may not be kept."""
    found = []
    for error in errors:
        value = error.value
        if value is not None:
            value = redact(value, rules, Tally())
            parts = error.loc.split(".")
            named = len(parts) > 1 and parts[1].split("[")[0] in _KNOWN - {"attributes"}
            if rules.drops_content and not named and not value.startswith("("):
                value = f"(withheld, {len(value)} characters)"
        found.append(FieldError(loc=redact(error.loc, rules, Tally()), msg=redact(error.msg, rules, Tally()), value=value))
    return tuple(found)
