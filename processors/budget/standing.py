"""How a budget stands: spent, burn rate, and when the limit is reached at it. Pure."""

from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final

from processors.budget.books import Book
from processors.budget.judging import exhausted
from processors.budget.tallies import EPOCH, ZERO, Tally
from schemas.budgets import FULL, BudgetStanding, Crossing

_NINE: Final = Decimal("0.000000001")
_TENTH: Final = Decimal("0.1")
_HOUR_S: Final = Decimal(3600)


def last_hour(book: Book) -> Decimal:
    """US dollars an hour over the last 60 minutes, by when they were spent."""
    return sum(book.minutes.values(), ZERO)


def over_period(book: Book, tally: Tally) -> Decimal:
    """US dollars an hour since the period began; over the whole window where it rolls."""
    passed = Decimal(str(max(1.0, (book.clock - tally.span.start).total_seconds())))
    return (tally.spent * _HOUR_S / passed).quantize(_NINE, ROUND_HALF_EVEN)


def reached_at(book: Book, tally: Tally, amount: Decimal, per_hour: Decimal) -> datetime | None:
    """When ``amount`` is reached if spending goes on ``per_hour``; None: not within this period."""
    now = book.clock
    if tally.spent >= amount:
        return now
    if per_hour <= 0:
        return None
    if book.rolling_s is None:
        seconds = float((amount - tally.spent) * _HOUR_S / per_hour)
        left = (tally.span.end - now).total_seconds()
        return now + timedelta(seconds=seconds) if seconds < left else None
    # What was spent leaves the window as it moves along; what is to be spent leaves it not before a whole window is over.
    standing, per_s = tally.spent, per_hour / _HOUR_S
    for slot in sorted(tally.slots):
        leaves = EPOCH + timedelta(seconds=(slot + 1) * book.slot_s + book.rolling_s)
        seconds = float((amount - standing) / per_s)
        if now + timedelta(seconds=seconds) <= leaves:
            return now + timedelta(seconds=seconds)
        standing -= tally.slots[slot][0]
    seconds = float((amount - standing) / per_s)
    return now + timedelta(seconds=seconds) if seconds <= book.rolling_s else None


def standing(book: Book) -> BudgetStanding:
    """Everything a person asks about it."""
    definition, tally = book.definition, book.current()
    hour = last_hour(book)
    following = next((each for each in definition.thresholds if tally.spent < book.amount(each)), None)
    return BudgetStanding(
        definition=definition,
        revision=book.revision,
        counted=tally.counted and book.minutes_counted,
        period=book.period(tally),
        period_start=tally.span.start,
        period_end=tally.span.end,
        spent_usd=tally.spent,
        entries=max(0, tally.entries),
        percent=(tally.spent * FULL / definition.limit_usd).quantize(_TENTH, ROUND_HALF_EVEN),
        remaining_usd=definition.limit_usd - tally.spent,
        crossed=tuple(
            Crossing(threshold=threshold, at=reached.at, event_id=reached.event_id)
            for threshold, reached in sorted(tally.crossed.items())
        ),
        enforced=definition.enforcement != "alert" and exhausted(book) is not None,
        burn_last_hour_usd_per_h=hour,
        burn_period_usd_per_h=over_period(book, tally),
        next_threshold=following,
        next_threshold_at=None if following is None else reached_at(book, tally, book.amount(following), hour),
        limit_at=reached_at(book, tally, definition.limit_usd, hour),
        ledger_sequence=book.applied,
    )
