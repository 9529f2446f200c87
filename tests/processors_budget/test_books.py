"""Counting and judging, without a server: against the same sums done naively, and through clock changes."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from processors.budget.books import Book
from processors.budget.enforcing import event, flag, stops
from processors.budget.gaps import fill, gaps
from processors.budget.judging import exhausted, redefine, settle
from processors.budget.periods import Span, slot_s, span_of
from processors.budget.recounting import summed
from processors.budget.spending import Spend
from processors.budget.standing import standing
from processors.budget.tallies import EPOCH, Gap, Part
from tests.processors_budget.world import budget

T0 = datetime(2026, 11, 20, 12, tzinfo=UTC)
AMOUNTS = st.decimals(Decimal(-3), Decimal(9), places=9)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def book(live_after: int = 0, now: datetime = T0, **given: Any) -> Book:
    made = Book(budget(at=given.pop("created", now), **given), 1, live_after, now, 300.0, clock=now)
    made.current()
    return made


def whole(made: Book) -> Book:
    """With nothing spent before."""
    for gap in gaps(made):
        fill(made, gap, [])
    return made


def reached(made: Book) -> list[int]:
    return [hit.threshold for hit in settle(made)]


def spend(cost: str | Decimal, when: datetime, agent: str = "a", **given: Any) -> Spend:
    return Spend(when, Decimal(cost), agent, **given)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-200_000, 300), AMOUNTS), max_size=40),
    st.integers(0, 40),
    st.integers(0, 40),
    st.sampled_from(["hour", "day", "week"]),
)
def test_each_period_holds_exactly_its_spending_however_much_of_it_came_before_the_budget(
    given_spends: list[tuple[int, Decimal]], before: int, filled_at: int, period: str
) -> None:
    """Some messages are summed up afterwards, some counted live; each lands once, in the period in which it occurred."""
    story = [(number, spend(amount, at(offset))) for number, (offset, amount) in enumerate(given_spends, 1)]
    made = book(before, period=period, timezone="Europe/Berlin", created=at(-300_000), now=T0)

    def fill_all() -> None:
        for gap in gaps(made):
            earlier = [one for number, one in story if number <= gap.up_to]
            fill(made, gap, summed(made.definition, gap, earlier))

    for number, one in story:
        if number == filled_at:
            fill_all()
        if number > before:
            made.take(number, [one], at(number))
            assert made.take(number, [one], at(number)) is False
    fill_all()
    expected: dict[datetime, Decimal] = defaultdict(Decimal)
    for _, one in story:
        expected[span_of(period, "Europe/Berlin", one.moment).start] += one.amount  # type: ignore[arg-type]
    for start, tally in made.tallies.items():
        assert tally.counted
        assert tally.spent == expected[start]
    assert not gaps(made)


@settings(max_examples=150, deadline=None)
@given(st.lists(AMOUNTS, max_size=60), st.lists(st.integers(0, 60), max_size=4))
def test_a_threshold_is_reached_once_whatever_the_order_and_the_restarts(amounts: list[Decimal], restarts: list[int]) -> None:
    made, seen, total, highest = whole(book(limit="10")), list[int](), Decimal(0), Decimal(0)
    adapter = TypeAdapter(Book)
    for number, amount in enumerate(amounts, 1):
        made.take(number, [spend(amount, at(number))], at(number))
        seen += reached(made)
        total += amount
        highest = max(highest, total)
        if number in restarts:
            restored = adapter.validate_json(adapter.dump_json(made), strict=True)
            assert restored == made
            made = restored
    assert seen == sorted(set(seen))
    assert set(seen) == {each for each in (50, 80, 100) if highest >= Decimal(each) / 10}
    assert made.current().spent == total


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(-300, 200), AMOUNTS), max_size=40), st.sampled_from([1, 3, 60, 2000]))
def test_a_rolling_window_holds_what_is_younger_than_it_and_at_most_a_slot_more(
    story: list[tuple[int, int, Decimal]], minutes: int
) -> None:
    made, taken, clock = whole(book(period="rolling", rolling_minutes=minutes)), list[Spend](), T0
    width = slot_s(minutes)
    for number, (step, late, amount) in enumerate(story, 1):
        clock += timedelta(seconds=step * minutes / 3)
        one = spend(amount, min(clock + timedelta(seconds=late * minutes / 3), clock + timedelta(seconds=300)))
        taken.append(one)
        made.take(number, [one], clock)
        first = int(clock.timestamp() - minutes * 60) // width
        expected = [each for each in taken if int(each.moment.timestamp()) // width >= first]
        tally = made.current()
        assert tally.spent == sum((each.amount for each in expected), Decimal(0))
        assert {each for each in expected if each.moment >= clock - timedelta(minutes=minutes)} <= set(expected)
        assert all(each.moment >= clock - timedelta(minutes=minutes, seconds=width) for each in expected)


def test_spending_leaves_a_rolling_window_and_its_threshold_can_be_reached_again() -> None:
    made = whole(book(limit="10", period="rolling", rolling_minutes=60))
    made.take(1, [spend("9", at(0))], at(0))
    assert reached(made) == [50, 80]
    first = made.tallies[EPOCH].crossed[80].event_id
    made.advance(at(3500))
    made.take(2, [spend("0.5", at(3500))], at(3500))
    assert reached(made) == []
    made.advance(at(3661))
    assert made.current().spent == Decimal("0.5")
    made.take(3, [spend("8", at(3700))], at(3700))
    assert reached(made) == [50, 80]
    assert made.tallies[EPOCH].crossed[80].event_id != first


def test_a_refusal_by_a_rolling_budget_lasts_until_enough_has_left_the_window() -> None:
    made = whole(book(limit="10", period="rolling", rolling_minutes=60, enforcement="deny"))
    made.take(1, [spend("4", at(0)), spend("7", at(600))], at(600))
    shown = flag(made)
    assert shown is not None
    assert shown.until == at(60 + 3600)
    made.advance(shown.until - timedelta(seconds=1))
    assert flag(made) is not None
    made.advance(shown.until)
    assert flag(made) is None


def test_spending_that_arrives_late_counts_in_its_own_period_and_may_cross_there() -> None:
    made = whole(book(limit="10", created=at(-86_400)))
    made.take(1, [spend("6", at(0))], at(0))
    assert reached(made) == [50]
    tomorrow = at(86_400)
    made.advance(tomorrow)
    assert made.current().spent == 0
    made.take(2, [spend("3", at(10)), spend("1", tomorrow)], tomorrow)
    hits = list(settle(made))
    assert [hit.threshold for hit in hits] == [80]
    assert hits[0].tally.span.holds(T0)
    assert made.current().spent == 1
    assert "reached 80 %: $9.00 of $10.00 in day 2026-11-20 UTC" in str(event(made, hits[0]).attributes["reason"])


def test_a_period_nobody_knew_any_more_is_summed_up_again_and_tells_only_what_is_new() -> None:
    made = whole(book(live_after=7, limit="10", created=at(-10 * 86_400)))
    last_week = at(-5 * 86_400)
    made.take(8, [spend("1", last_week)], T0)
    assert reached(made) == []
    gap = next(each for each in gaps(made) if each.key is not None)
    assert gap.up_to == 7
    fill(made, gap, [Part(Decimal("7.5"), 3)])
    assert reached(made) == [80]
    assert made.tallies[gap.key].spent == Decimal("8.5") if gap.key else False


def test_what_was_over_before_the_budget_was_set_is_none_of_its_business() -> None:
    made = whole(book())
    made.take(1, [spend("100", at(-86_400))], T0)
    assert reached(made) == []
    assert list(made.tallies) == [made.current().span.start]


def test_spending_ahead_of_the_clock_counts_when_its_period_begins() -> None:
    midnight = datetime(2026, 11, 21, tzinfo=UTC)
    made = whole(book(limit="10", now=midnight - timedelta(seconds=10)))
    made.take(1, [spend("12", midnight + timedelta(seconds=5))], midnight - timedelta(seconds=5))
    assert reached(made) == []
    assert exhausted(made) is None
    made.advance(midnight)
    # So shortly after the budget was set, earlier entries might reach into this period too.
    assert reached(made) == []
    whole(made)
    assert reached(made) == [50, 80, 100]
    assert exhausted(made) is not None


def berlin(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Europe/Berlin")).astimezone(UTC)


def test_a_budget_rolls_over_at_local_midnight_through_both_clock_changes() -> None:
    """25 and 23 hours: nothing is spent in two days, and none of it in no day."""
    for day, following, hours in (("2026-10-25", "2026-10-26", 25), ("2026-03-29", "2026-03-30", 23)):
        start = berlin(f"{day}T00:00")
        made = whole(book(limit="24", timezone="Europe/Berlin", enforcement="deny", now=start, created=start))
        sequence = 0
        for half_hour in range(2 * hours):
            sequence += 1
            moment = start + timedelta(minutes=30 * half_hour, seconds=1)
            made.take(sequence, [spend("0.5", moment)], moment)
        assert made.current().spent == hours
        assert made.current().span == Span(start, berlin(f"{following}T00:00"))
        made.take(sequence + 1, [spend("12", made.clock)], made.clock)
        assert flag(made) is not None
        made.advance(berlin(f"{following}T00:00"))
        assert made.current().spent == 0
        assert flag(made) is None


def test_a_lowered_limit_is_judged_at_once_and_a_raised_one_opens_the_doors() -> None:
    made = whole(book(limit="100", enforcement="deny"))
    made.take(1, [spend("30", at(1))], at(1))
    assert reached(made) == []
    lowered = made.definition.model_copy(update={"limit_usd": Decimal(25)})
    assert redefine(made, lowered, 2)
    assert reached(made) == [50, 80, 100]
    assert flag(made) is not None
    raised = lowered.model_copy(update={"limit_usd": Decimal(50)})
    assert redefine(made, raised, 3)
    assert flag(made) is None
    assert reached(made) == [50]
    assert redefine(made, raised.model_copy(update={"enforcement": "stop"}), 4)
    assert reached(made) == []
    assert not redefine(made, raised.model_copy(update={"timezone": "Asia/Tokyo"}), 5)


def test_a_stop_is_asked_of_each_agent_once_and_of_late_comers_too() -> None:
    made = whole(book(limit="1", enforcement="stop"))
    made.take(1, [spend("2", at(1), "one"), spend("2", at(1), "two")], at(1))
    list(settle(made))
    asked = stops(made, {}, at(1))
    assert [each.subject for each in asked] == ["command.acme.budget.one", "command.acme.budget.two"]
    assert stops(made, {}, at(2)) == []
    made.take(2, [spend("0.1", at(3), "three")], at(3))
    again = stops(made, {}, at(3))
    assert [each.subject for each in again] == ["command.acme.budget.three"]
    assert "has reached 100 %" in again[0].data


def test_the_forecast_is_where_the_burn_rate_meets_the_limit() -> None:
    made = whole(book(limit="10"))
    for minute in range(60):
        made.take(minute + 1, [spend("0.1", at(60 * minute))], at(60 * minute))
    told = standing(made)
    assert told.burn_last_hour_usd_per_h == Decimal("6.0")
    assert told.next_threshold == 80
    assert told.next_threshold_at == at(59 * 60) + timedelta(minutes=20)
    assert told.limit_at == at(59 * 60) + timedelta(minutes=40)
    steady = whole(book(limit="10", period="rolling", rolling_minutes=60))
    for minute in range(120):
        steady.take(minute + 1, [spend("0.1", at(60 * minute))], at(60 * minute))
    assert standing(steady).limit_at is None


def test_the_gap_of_a_rolling_budget_reaches_as_far_as_its_window() -> None:
    made = book(9, period="rolling", rolling_minutes=90)
    gap: Gap = next(each for each in gaps(made) if each.key is not None)
    assert gap.span.start <= T0 - timedelta(minutes=90)
    assert (gap.up_to, gap.slot_s) == (9, 60)
    minute = int(at(-60).timestamp()) // 60
    fill(made, gap, [Part(Decimal(3), 2, minute), Part(Decimal(4), 1, minute - 200)])
    assert made.current().spent == 3
