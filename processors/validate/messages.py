"""From one telemetry message to the raw events in it."""

from dataclasses import dataclass
from functools import lru_cache

from schemas.ids import is_token
from streams.messages import CONTENT_TYPE, NDJSON, Received

_PARTS = 4


@dataclass(frozen=True, slots=True)
class Address:
    """Whose event the subject says it is."""

    tenant: str
    agent: str
    kind: str
    """An event kind, or ``batch``."""
    valid: bool


@lru_cache(maxsize=8192)
def address(subject: str) -> Address:
    """The tokens of ``telemetry.<tenant>.<agent>.<kind>``; ``valid`` says whether all may stand there."""
    parts = subject.split(".")
    valid = len(parts) == _PARTS and parts[0] == "telemetry" and all(map(is_token, parts))
    found = [*parts[1:_PARTS], "", "", ""]
    return Address(found[0], found[1], found[2], valid)


def _object_like(line: bytes) -> bool:
    return line[:1] == b"{" and line[-1:] == b"}"


def raw_events(message: Received) -> list[bytes]:
    """The raw events of a message: the lines of NDJSON, else the whole.

    NDJSON is what says so in its Content-Type, and what has several lines that each look like an object.
    """
    data = message.data
    told = message.headers.get(CONTENT_TYPE, "")
    if b"\n" not in data:
        return [data] if data.strip() else []
    lines = [stripped for line in data.split(b"\n") if (stripped := line.strip())]
    if told.split(";", 1)[0].strip().lower() == NDJSON or (len(lines) > 1 and all(map(_object_like, lines))):
        return lines
    return [data] if lines else []
