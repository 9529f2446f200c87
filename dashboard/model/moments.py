"""Times as the page carries them: milliseconds since 1970."""

from datetime import UTC, datetime
from typing import Any


def milliseconds(at: datetime | None) -> int | None:
    """``at`` in milliseconds since 1970."""
    return None if at is None else round(at.timestamp() * 1000)


def told_milliseconds(text: Any) -> int | None:
    """An RFC 3339 time out of a query's row, in milliseconds since 1970; None where there is none."""
    if not isinstance(text, str):
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return milliseconds(at if at.tzinfo is not None else at.replace(tzinfo=UTC))
