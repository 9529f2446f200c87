"""Events as plain values, and the records they become. Made so they are valid: nothing here asks the contract again."""

from typing import Any, Final

from schemas.events import KIND_OF, MAX_ATTRIBUTES
from sidecar.content import treated
from sidecar.frames import Record

OBSERVED_BY: Final = "agentops.observed_by"
_NUL: Final = b"\\u0000"
_SPARE: Final = 8
"""Places kept among the attributes for what is said about them."""


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


def record(event: dict[str, Any]) -> Record:
    """``event``, in plain values, as the spool keeps it: as its tenant's policy lets it stand."""
    line = treated(event)
    if _NUL in line:
        # Asked of the bytes, where it is cheap; text that only speaks of it comes back as it was.
        event = _clean(event)
        line = treated(event)
    return Record(KIND_OF[event["event_type"]], event["event_id"], line)
