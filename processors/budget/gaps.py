"""What a book does not hold yet: the gaps that spending before it left, and how they are filled. Pure."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from processors.budget.books import Book
from processors.budget.judging import reached
from processors.budget.periods import Span
from processors.budget.tallies import EPOCH, SLACK, ZERO, Gap, Part

_HOUR_S: Final = 3600


def gaps(book: Book) -> list[Gap]:
    """What is still to be summed up."""
    found = []
    for key, tally in book.tallies.items():
        if tally.counted:
            continue
        if book.rolling_s is None:
            found.append(Gap(key, tally.span, tally.live_after))
        else:
            start = EPOCH + timedelta(seconds=book.first_slot() * book.slot_s)
            end = book.clock + timedelta(seconds=book.tolerance_s) + SLACK
            found.append(Gap(key, Span(start, end), tally.live_after, book.slot_s))
    if not book.minutes_counted:
        end = book.clock + timedelta(seconds=book.tolerance_s) + SLACK
        span = Span(book.clock - timedelta(seconds=_HOUR_S), end)
        found.append(Gap(None, span, book.live_after, 60))
    return found


def fill(book: Book, gap: Gap, sums: Sequence[Part]) -> None:
    """Adds what ``gap`` came to. What a late period had reached before is taken as told."""
    if gap.key is None:
        for each in sums:
            minute = each.slot or 0
            if minute > book.clock_minute - 60:
                book.minutes[minute] = book.minutes.get(minute, ZERO) + each.amount
        book.minutes_counted = True
        return
    tally = book.tallies.get(gap.key)
    if tally is None or tally.counted or tally.live_after != gap.up_to:
        return
    book.touched.add(gap.key)
    if tally.late:
        before = sum((each.amount for each in sums), ZERO)
        for threshold in book.definition.thresholds:
            if before >= book.amount(threshold):
                tally.crossed[threshold] = reached(book, gap.key, threshold)
    for each in sums:
        if book.rolling_s is not None:
            slot = each.slot or 0
            if slot < book.first_slot():
                continue
            amount, entries = tally.slots.get(slot, (ZERO, 0))
            tally.slots[slot] = (amount + each.amount, entries + each.entries)
        tally.spent += each.amount
        tally.entries += each.entries
        tally.last_agent = tally.last_agent or each.last_agent
    tally.counted = True
