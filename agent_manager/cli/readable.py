"""Values as a person reads them: money, times, ages, durations, sizes. Pure: now is an argument."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final

NOTHING: Final = "–"


def money(value: Decimal | str | float | None) -> str:
    """US dollars: cents from a dollar on, three significant digits below; never scientific."""
    if value is None:
        return NOTHING
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        return str(value)
    if amount == 0:
        return "$0"
    if abs(amount) >= 1:
        return f"${amount:,.2f}" if amount > 0 else f"-${-amount:,.2f}"
    digits = min(9, 2 - amount.adjusted())
    text = f"{abs(amount):.{digits}f}"
    return f"{'-' if amount < 0 else ''}${text}"


def instant(value: str | datetime | None) -> datetime | None:
    """The moment an RFC 3339 text names; None where it names none."""
    if value is None or isinstance(value, datetime):
        return value
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return None


def clock(value: str | datetime | None) -> str:
    """A moment in local time, to the second."""
    at = instant(value)
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S") if at is not None else NOTHING


def short_clock(value: str | datetime | None, now: datetime) -> str:
    """A moment in local time: the time alone for today's, the day and the minute for others of the last half year."""
    at = instant(value)
    if at is None:
        return NOTHING
    local, today = at.astimezone(), now.astimezone()
    if local.date() == today.date():
        return local.strftime("%H:%M:%S")
    return local.strftime("%m-%d %H:%M" if abs(now - at) < timedelta(days=180) else "%Y-%m-%d")


def duration(seconds: float | None) -> str:
    """``850 ms``, ``4.2 s``, ``3 min 5 s``, ``2 h 4 min``, ``3 d 2 h``."""
    if seconds is None:
        return NOTHING
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < 1:
        return "<1 ms" if 0 < seconds < 0.0005 else f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    whole = int(seconds)
    for size, name, smaller, smaller_name in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {name} {rest} {smaller_name}" if rest else f"{whole // size} {name}"
    return f"{whole} s"


def milliseconds(value: float | None) -> str:
    """A latency."""
    return NOTHING if value is None else duration(value / 1000)


def age(value: str | datetime | None, now: datetime) -> str:
    """How long ago: ``4 s ago``; ``in 3 min`` for what is still to come."""
    at = instant(value)
    if at is None:
        return NOTHING
    gone = (now - at) / timedelta(seconds=1)
    if gone < -1:
        return f"in {duration(-gone)}"
    return "just now" if gone < 1 else f"{duration(float(int(gone)) if gone >= 10 else round(gone, 1))} ago"


def share(value: float | None) -> str:
    """A ratio as per cent."""
    if value is None:
        return NOTHING
    return f"{value * 100:.1f} %" if 0 < value < 0.1 else f"{value * 100:.0f} %"


def size(value: int | None) -> str:
    """Bytes."""
    if value is None:
        return NOTHING
    amount = float(value)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"


def number(many: int, one: str, several: str | None = None) -> str:
    """``1 line``, ``2 lines``."""
    return f"{many:,} {one if many == 1 else several or one + 's'}"


def count(value: float | None) -> str:
    """A number with thousands separated."""
    if value is None:
        return NOTHING
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def cell(column: str, value: Any, now: datetime | None = None) -> str:
    """One value of a query's row, told by its column's name; with ``now`` a moment is as short as it can be."""
    if value is None:
        return NOTHING
    if "cost_usd" in column or column.endswith("_usd"):
        return money(value)
    if column.endswith("_ms") and isinstance(value, int | float):
        return milliseconds(value)
    if column in {"at", "last_seen"} or column.endswith("_at"):
        if instant(value) is None:
            return str(value)
        return clock(value) if now is None else short_clock(value, now)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return count(value)
    if isinstance(value, Mapping):
        return " ".join(f"{key}={item}" for key, item in value.items()) or NOTHING
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or NOTHING
    return str(value)


def is_number(column: str, value: Any) -> bool:
    """Whether a column is read better aligned to the right."""
    return "cost_usd" in column or (isinstance(value, int | float) and not isinstance(value, bool))
