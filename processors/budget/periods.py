"""Where an hour, day, week or month of a time zone begins and ends. Pure.

A period lasts from one boundary to the next. A boundary is the first moment at which the local clock shows it or, where the
clock jumps over it, the moment of the jump; the hour that a clock shows twice is two hours. So periods neither overlap nor
leave gaps: a day of a change has 23 or 25 hours.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final, Literal
from zoneinfo import ZoneInfo

Calendar = Literal["hour", "day", "week", "month"]

EARLIEST: Final = datetime(1900, 1, 1, tzinfo=UTC)
"""No budget reaches back so far: what lies before is taken as this."""


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """``start`` belongs to it, ``end`` to the next."""

    start: datetime
    end: datetime

    def holds(self, moment: datetime) -> bool:
        """Whether ``moment`` lies in it."""
        return self.start <= moment < self.end


def _labels(period: Calendar, local: datetime) -> Iterator[datetime]:
    """What clocks without a zone show at boundaries around ``local``."""
    day = datetime.combine(local.date(), datetime.min.time())
    if period == "hour":
        hour = day + timedelta(hours=local.hour)
        yield from (hour + timedelta(hours=shift) for shift in (-1, 0, 1, 2))
    elif period == "day":
        yield from (day + timedelta(days=shift) for shift in (-1, 0, 1, 2))
    elif period == "week":
        monday = day - timedelta(days=day.weekday())
        yield from (monday + timedelta(weeks=shift) for shift in (-1, 0, 1, 2))
    else:
        months = local.year * 12 + local.month - 1
        for shift in (-1, 0, 1, 2):
            year, month = divmod(months + shift, 12)
            yield datetime.combine(date(year, month + 1, 1), datetime.min.time())


def _boundaries(period: Calendar, zone: ZoneInfo, local: datetime) -> Iterator[datetime]:
    for label in _labels(period, local):
        yield label.replace(tzinfo=zone).astimezone(UTC)
        if period == "hour":
            second = label.replace(tzinfo=zone, fold=1)
            # The hour shown twice begins twice; in a jump forward the second reading names no moment.
            if (again := second.astimezone(UTC)).astimezone(zone).replace(tzinfo=None) == label:
                yield again


@lru_cache(maxsize=256)
def zone(name: str) -> ZoneInfo:
    """The time zone of this name."""
    return ZoneInfo(name)


def span_of(period: Calendar, zone_name: str, moment: datetime) -> Span:
    """The period in which ``moment`` lies, in UTC."""
    where = zone(zone_name)
    at = max(moment, EARLIEST).astimezone(UTC)
    found = sorted(set(_boundaries(period, where, at.astimezone(where).replace(tzinfo=None))))
    return Span(max(each for each in found if each <= at), min(each for each in found if each > at))


def name_of(period: Calendar, zone_name: str, start: datetime) -> str:
    """``day 2026-11-20 Europe/Berlin``: the period that begins at ``start``, as people read it."""
    local = start.astimezone(zone(zone_name))
    shown = {"hour": "%Y-%m-%d %H:00%z", "day": "%Y-%m-%d", "week": "from %Y-%m-%d", "month": "%Y-%m"}[period]
    return f"{period} {local.strftime(shown)} {zone_name}"


_MOST_SLOTS: Final = 1440


def slot_s(rolling_minutes: int) -> int:
    """The width of a rolling window's slots in seconds: a minute up to a day, then as many as keep it at 1,440 slots."""
    return 60 * max(1, -(-rolling_minutes // _MOST_SLOTS))


def rolling_name(minutes: int) -> str:
    """``rolling 24h``."""
    for size, unit in ((1440, "d"), (60, "h")):
        if minutes % size == 0 and minutes > size:
            return f"rolling {minutes // size}{unit}"
    return f"rolling {minutes}m" if minutes != 60 else "rolling 1h"
