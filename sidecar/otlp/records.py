"""Events as plain values, and the records they become. Made so they are valid: nothing here asks the contract again."""

from typing import Any, Final

import orjson

from schemas.events import KIND_OF, MAX_ATTRIBUTES
from schemas.reading import MAX_EVENT_BYTES
from sidecar.frames import Record
from sidecar.otlp.mapping import CONTENT

OBSERVED_BY: Final = "agentops.observed_by"
_NUL: Final = b"\\u0000"
_SPARE: Final = 8
"""Places kept among the attributes for what is said about them."""
_MOST_BYTES: Final = MAX_EVENT_BYTES - 100_000
_LONGEST: Final = 16_384


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd")
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    return [_clean(item) for item in value] if isinstance(value, list) else value


def attributes(extra: dict[str, Any]) -> dict[str, Any]:
    """As many attributes as an event may have, and how many were left out."""
    most = MAX_ATTRIBUTES - _SPARE
    if len(extra) <= most:
        return extra
    kept = dict(list(extra.items())[:most])
    kept["agentops.attributes_dropped"] = len(extra) - most
    return kept


def _shortened(event: dict[str, Any], size: int) -> dict[str, Any]:
    """``event`` without its content, and with what is long cut short: an event has its bound, and says what it lost."""
    kept: dict[str, Any] = {}
    for name, value in event.get("attributes", {}).items():
        if name in CONTENT.values():
            continue
        text = (
            value if isinstance(value, str) else None if isinstance(value, int | float | None) else orjson.dumps(value).decode()
        )
        short = value if text is None or len(text) <= _LONGEST // 16 else f"{text[: _LONGEST // 16]}…"
        kept[name[:256]] = short
    kept["agentops.too_large"] = size
    return event | {"attributes": kept}


def record(event: dict[str, Any]) -> Record:
    """``event``, in plain values, as the spool keeps it."""
    line = orjson.dumps(event)
    if len(line) > _MOST_BYTES:
        line = orjson.dumps(_shortened(event, len(line)))
    if _NUL in line:
        # Asked of the bytes, where it is cheap; text that only speaks of it comes back as it was.
        line = orjson.dumps(_clean(event if len(line) <= _MOST_BYTES else orjson.loads(line)))
    return Record(KIND_OF[event["event_type"]], event["event_id"], line)
