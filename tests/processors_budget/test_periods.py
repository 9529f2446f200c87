"""Periods neither overlap nor leave gaps, whatever the clocks do."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.budget.periods import Calendar, Span, name_of, rolling_name, slot_s, span_of

ZONES = (
    "UTC", "Europe/Berlin", "America/New_York", "America/St_Johns", "Asia/Kolkata", "Australia/Lord_Howe", "America/Havana",
    "Africa/Cairo", "Asia/Beirut", "Pacific/Apia", "America/Sao_Paulo", "Atlantic/Azores", "Pacific/Chatham", "Asia/Kathmandu",
)  # fmt: skip
PERIODS: tuple[Calendar, ...] = ("hour", "day", "week", "month")

seconds = st.integers(int(datetime(2005, 1, 1, tzinfo=UTC).timestamp()), int(datetime(2040, 1, 1, tzinfo=UTC).timestamp()))
moments = seconds.map(lambda second: datetime.fromtimestamp(second, UTC))


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(PERIODS), st.sampled_from(ZONES), moments)
def test_a_moment_lies_in_its_period_and_every_moment_of_it_says_the_same(period: Calendar, zone: str, moment: datetime) -> None:
    found = span_of(period, zone, moment)
    assert found.holds(moment)
    for inside in (found.start, found.start + (found.end - found.start) / 3, found.end - timedelta(microseconds=1)):
        assert span_of(period, zone, inside) == found


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(PERIODS), st.sampled_from(ZONES), moments)
def test_the_next_period_begins_where_this_one_ends(period: Calendar, zone: str, moment: datetime) -> None:
    found = span_of(period, zone, moment)
    assert span_of(period, zone, found.end).start == found.end
    assert span_of(period, zone, found.start - timedelta(microseconds=1)).end == found.start


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(("day", "week", "month")), st.sampled_from(ZONES), moments)
def test_a_day_holds_one_local_date_a_week_seven_a_month_all_of_its_own(period: Calendar, zone: str, moment: datetime) -> None:
    found = span_of(period, zone, moment)
    first = found.start.astimezone(ZoneInfo(zone)).date()
    last = (found.end - timedelta(microseconds=1)).astimezone(ZoneInfo(zone)).date()
    if period == "day":
        assert first == last
    elif period == "week":
        assert first.weekday() == 0 or zone == "Pacific/Apia"
        assert last - first <= timedelta(days=6)
    else:
        assert (first.year, first.month) == (last.year, last.month)
        assert first.day == 1


def berlin(text: str, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Europe/Berlin"), fold=fold).astimezone(UTC)


@pytest.mark.parametrize(("day", "hours"), [("2026-03-28", 24), ("2026-03-29", 23), ("2026-10-25", 25), ("2026-10-26", 24)])
def test_the_days_of_a_clock_change_have_23_and_25_hours(day: str, hours: int) -> None:
    found = span_of("day", "Europe/Berlin", berlin(f"{day}T12:00"))
    assert found == Span(berlin(f"{day}T00:00"), berlin(f"{day}T00:00") + timedelta(hours=hours))


def test_the_hour_shown_twice_is_two_hours() -> None:
    first = span_of("hour", "Europe/Berlin", berlin("2026-10-25T02:30"))
    second = span_of("hour", "Europe/Berlin", berlin("2026-10-25T02:30", fold=1))
    assert first.end == second.start
    assert first.end - first.start == second.end - second.start == timedelta(hours=1)
    names = {name_of("hour", "Europe/Berlin", each.start) for each in (first, second)}
    assert names == {"hour 2026-10-25 02:00+0200 Europe/Berlin", "hour 2026-10-25 02:00+0100 Europe/Berlin"}


def test_a_midnight_the_clock_jumps_over_begins_the_day_at_the_jump() -> None:
    """Cairo: 24 April 2026, 00:00 becomes 01:00."""
    found = span_of("day", "Africa/Cairo", datetime(2026, 4, 24, 12, tzinfo=UTC))
    assert found.start.astimezone(ZoneInfo("Africa/Cairo")).hour == 1
    assert found.end - found.start == timedelta(hours=23)


def test_hours_of_half_hour_zones_begin_at_their_own_full_hours() -> None:
    found = span_of("hour", "Asia/Kolkata", datetime(2026, 11, 20, 12, 0, tzinfo=UTC))
    assert found.start == datetime(2026, 11, 20, 11, 30, tzinfo=UTC)


def test_what_lies_before_all_budgets_is_no_error() -> None:
    assert span_of("month", "Europe/Berlin", datetime.min.replace(tzinfo=UTC)).end.year <= 1900


def test_the_slots_of_a_rolling_window_are_minutes_up_to_a_day_and_1440_at_most_beyond() -> None:
    assert [slot_s(minutes) for minutes in (1, 60, 1440, 1441, 7 * 1440, 30 * 1440)] == [60, 60, 60, 120, 420, 1800]
    assert [rolling_name(minutes) for minutes in (60, 90, 1440, 10080)] == [
        "rolling 1h",
        "rolling 90m",
        "rolling 24h",
        "rolling 7d",
    ]
