"""What a book's spending has reached: thresholds, the limit, and what other terms make of them. Pure."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from processors.budget.books import Book
from processors.budget.tallies import EPOCH, Hit, Reached, Tally
from schemas.budgets import BudgetDefinition
from schemas.ids import derived_id


def settle(book: Book) -> Iterator[Hit]:
    """Every threshold reached and not told yet, lowest first. From now on they count as told."""
    for key in sorted(book.touched):
        tally = book.tallies.get(key)
        if tally is not None and (not tally.counted or key > book.clock):
            # Its turn comes when all of it is known, and it has begun.
            continue
        book.touched.discard(key)
        if tally is None:
            continue
        for threshold in book.definition.thresholds:
            if threshold not in tally.crossed and tally.spent >= book.amount(threshold):
                tally.crossed[threshold] = reached(book, key, threshold)
                if key != EPOCH and not tally.late:
                    book.rolls_at = min(book.rolls_at, tally.span.end)
                yield Hit(threshold, tally, tally.crossed[threshold])


def reached(book: Book, key: datetime, threshold: int) -> Reached:
    """A threshold as reached now."""
    return Reached(book.clock, event_id(book, key, threshold), book.tallies[key].last_agent)


def event_id(book: Book, key: datetime, threshold: int) -> str:
    """Of the event that tells it: one for ever for each revision, period and threshold."""
    when = f"rolling {book.applied}" if key == EPOCH else key.isoformat()
    definition = book.definition
    revision = f"{definition.created_at.isoformat()} {book.revision}"
    return str(derived_id("budget_threshold", definition.tenant_id, definition.budget_id, revision, when, str(threshold)))


def exhausted(book: Book) -> Tally | None:
    """The current tally, if the limit is reached in it."""
    tally = book.current()
    return tally if tally.counted and tally.spent >= book.definition.limit_usd else None


def falls_below_at(book: Book, tally: Tally) -> datetime:
    """When the limit is no longer reached if nothing more is spent: the end of the period."""
    if book.rolling_s is None:
        return tally.span.end
    left = tally.spent
    for slot in sorted(tally.slots):
        left -= tally.slots[slot][0]
        if left < book.definition.limit_usd:
            return EPOCH + timedelta(seconds=(slot + 1) * book.slot_s + book.rolling_s)
    return book.clock


def end(book: Book, why: str) -> None:
    """Whatever was reached holds no longer."""
    for tally in book.tallies.values():
        book.lapse(tally, why)


def redefine(book: Book, definition: BudgetDefinition, revision: int) -> bool:
    """Takes a changed definition over; False where what it counts is another now, and a new book is needed."""
    old = book.definition
    if _basis(old) != _basis(definition):
        return False
    if changed := (old.limit_usd, old.thresholds) != (definition.limit_usd, definition.thresholds):
        end(book, "its terms are others now")
    book.definition = definition
    if changed:
        book.revision = revision
        current = book.current()
        # What is over was judged by the old terms; should it be spent in again, it is summed up anew.
        for key in [key for key, tally in book.tallies.items() if tally.span.end <= current.span.start]:
            book.forget(key)
        for tally in book.tallies.values():
            tally.crossed.clear()
            tally.asked.clear()
        book.touched.update(book.tallies)
    return True


def _basis(definition: BudgetDefinition) -> tuple[object, ...]:
    """What decides which entries count, and in which period."""
    return (
        definition.scope, definition.of, definition.period, definition.rolling_minutes, definition.timezone,
        definition.created_at,
    )  # fmt: skip
