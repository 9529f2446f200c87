"""Durations and moments as people type them. Pure: now is an argument."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|min|s|m|h|d|w)?")


class NotATimeError(ValueError):
    """A text names no duration or moment. The message says what does."""


def seconds(text: str) -> float:
    """``5m`` → 300.0; also ``90``, ``90s``, ``1h30m``, ``2d``. Raises NotATimeError."""
    wanted = text.strip().lower()
    parts = list(_PART.finditer(wanted))
    if not parts or "".join(part.group(0) for part in parts) != wanted or (len(parts) > 1 and any(not p.group(2) for p in parts)):
        msg = f"{text!r} is not a duration: write 30s, 5m, 2h, 1h30m or a number of seconds"
        raise NotATimeError(msg)
    return sum(float(part.group(1)) * _UNITS[part.group(2) or "s"] for part in parts)


def moment(text: str, now: datetime) -> datetime:
    """``24h`` (so long ago), ``now``, ``today``, ``2026-11-20``, or RFC 3339; without a zone it is local time. Raises NotATimeError."""
    wanted = text.strip()
    if wanted.lower() == "now":
        return now
    if wanted.lower() == "today":
        return now.astimezone().replace(hour=0, minute=0, second=0, microsecond=0).astimezone(UTC)
    try:
        return datetime.fromisoformat(wanted).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        pass
    try:
        return now - timedelta(seconds=seconds(wanted.removesuffix(" ago").removesuffix("ago")))
    except (NotATimeError, OverflowError) as error:
        msg = f"{text!r} is not a time: write 24h (ago), today, 2026-11-20, or 2026-11-20T08:00:00Z"
        raise NotATimeError(msg) from error
