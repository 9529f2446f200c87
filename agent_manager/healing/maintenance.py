"""Whether an agent is under maintenance, and until when."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from schemas.maintenance import MaintenanceWindow, weekly_parts


def ends_at(windows: Iterable[MaintenanceWindow], opened_until: datetime | None, now: datetime) -> datetime | None:
    """When the maintenance that is on at ``now`` ends, the latest of several; None: there is none.

    ``opened_until``: what a person opened by command.
    """
    found = [moment for window in windows if (moment := _end(window, now)) is not None]
    if opened_until is not None and opened_until > now:
        found.append(opened_until)
    return max(found, default=None)


def _end(window: MaintenanceWindow, now: datetime) -> datetime | None:
    if window.weekly is None:
        assert window.begins is not None
        assert window.until is not None
        return window.until if window.begins <= now < window.until else None
    days, begins, ends = weekly_parts(window.weekly)
    zone = ZoneInfo(window.timezone)
    today = now.astimezone(zone).date()
    # One that began yesterday may reach into today.
    for day in (today - timedelta(days=1), today):
        if day.weekday() not in days:
            continue
        last = day if ends > begins else day + timedelta(days=1)
        # By the clock on the wall: a night in which it is set is as long as people say it is.
        start = datetime.combine(day, begins, zone).astimezone(UTC)
        end = datetime.combine(last, ends, zone).astimezone(UTC)
        if start <= now < end:
            return end
    return None
