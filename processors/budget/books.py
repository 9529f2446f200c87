"""The book of one budget: what is spent in its periods. Pure.

A book counts every ledger message after ``live_after`` as it is read. What earlier messages spent is summed up elsewhere and
filled in (``gaps``); until then a period is not judged (``judging``). Taking a message twice leaves the book as once.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from processors.budget.periods import Span, name_of, rolling_name, slot_s, span_of
from processors.budget.spending import Spend, in_scope
from processors.budget.tallies import EPOCH, NEVER, SLACK, ZERO, Lapsed, Tally
from schemas.budgets import FULL, BudgetDefinition

MOST_TALLIES: Final = 32
"""Periods kept; what arrives late for an older one makes it be summed up again."""
MOST_AGENTS: Final = 4000
"""Agents remembered as spending in a period, to be stopped at its limit."""
_REARMED_BELOW: Final = Decimal("0.9")
"""A rolling threshold can be reached again once spending has fallen below this share of it: it does not flutter."""


@dataclass(slots=True)
class Book:
    """One budget. ``clock`` never goes back."""

    definition: BudgetDefinition
    revision: int
    """Of the definition when limit, thresholds, scope or period last changed: crossings are of one revision."""
    live_after: int
    """Position in LEDGER after which it counted from the beginning."""
    live_at: datetime
    """When that was."""
    tolerance_s: float
    applied: int = 0
    """Messages up to this one are in it."""
    clock: datetime = EPOCH
    tallies: dict[datetime, Tally] = field(default_factory=dict)
    forgotten: datetime | None = None
    """Start of the newest period that was forgotten."""
    minutes: dict[int, Decimal] = field(default_factory=dict)
    """Spending by minute of the last hour, for the burn rate."""
    minutes_counted: bool = False
    clock_minute: int = 0
    """Minutes from 1970 to ``clock``."""
    touched: set[datetime] = field(default_factory=set)
    """Tallies that changed since they were last judged."""
    lapsed: list[Lapsed] = field(default_factory=list)
    """Thresholds that hold no longer, and were not told so yet."""
    rolls_at: datetime = NEVER
    """When the first period ends in which a threshold holds."""

    def __post_init__(self) -> None:
        self.applied = max(self.applied, self.live_after)
        self.clock_minute = int(self.clock.timestamp()) // 60
        self._roll_over()

    @property
    def rolling_s(self) -> int | None:
        """The length of a rolling window."""
        return None if self.definition.rolling_minutes is None else self.definition.rolling_minutes * 60

    @property
    def slot_s(self) -> int:
        """The width of its slots."""
        return slot_s(self.definition.rolling_minutes or 1)

    def period(self, tally: Tally) -> str:
        """The period as people read it."""
        definition = self.definition
        if definition.period == "rolling":
            assert definition.rolling_minutes is not None
            return rolling_name(definition.rolling_minutes)
        return name_of(definition.period, definition.timezone, tally.span.start)

    def take(self, sequence: int, spent: list[Spend], at: datetime) -> bool:
        """Counts a message of the ledger, stored ``at``; whether that changed anything."""
        if sequence <= self.applied:
            return False
        self.applied = sequence
        self.advance(at)
        own = in_scope(self.definition, spent)
        for each in own:
            self._count(each, sequence)
        return bool(own)

    def _count(self, spend: Spend, sequence: int) -> None:
        second = int(spend.moment.timestamp())
        if (minute := second // 60) > self.clock_minute - 60:
            self.minutes[minute] = self.minutes.get(minute, ZERO) + spend.amount
        tally = self._tally(spend.moment, sequence - 1)
        if tally is None:
            return
        if self.rolling_s is not None:
            slot = second // self.slot_s
            if slot < self.first_slot():
                return
            amount, entries = tally.slots.get(slot, (ZERO, 0))
            tally.slots[slot] = (amount + spend.amount, entries + 1)
        self.touched.add(EPOCH if self.rolling_s is not None else tally.span.start)
        tally.spent += spend.amount
        tally.entries += 1
        tally.last_agent = spend.agent_id
        if self.definition.enforcement == "stop" and len(tally.agents) < MOST_AGENTS:
            tally.agents.add(spend.agent_id)

    def _tally(self, moment: datetime, live_after: int) -> Tally | None:
        """The tally ``moment`` counts in; None for a period that was over before the budget was set."""
        definition = self.definition
        if definition.period == "rolling":
            return self.tallies.get(EPOCH) or self._add(EPOCH, Span(EPOCH, EPOCH), live_after)
        for tally in self.tallies.values():
            if tally.span.holds(moment):
                return tally
        span = span_of(definition.period, definition.timezone, moment)
        if span.end <= definition.created_at:
            return None
        return self._add(span.start, span, live_after)

    def _add(self, key: datetime, span: Span, live_after: int) -> Tally:
        # Earlier messages reach no further than their own arrival and the tolerance.
        reach = self.live_at + timedelta(seconds=self.tolerance_s) + SLACK
        known = key > reach and (self.forgotten is None or key > self.forgotten)
        late = key is not EPOCH and span.end <= self.clock
        tally = self.tallies[key] = Tally(span, live_after, counted=known, late=late)
        # Newest first: the current one is looked for most often.
        self.tallies = dict(sorted(self.tallies.items(), reverse=True))
        for old in list(self.tallies)[MOST_TALLIES:]:
            if old != key and self.tallies[old].counted:
                self.forget(old)
        return tally

    def forget(self, key: datetime) -> None:
        """Gives a period up; spent in again it is summed up anew."""
        del self.tallies[key]
        self.forgotten = key if self.forgotten is None else max(key, self.forgotten)

    def first_slot(self) -> int:
        """The oldest slot of a rolling window: a spend stays at least as long as the window, at most a slot longer."""
        assert self.rolling_s is not None
        return int(self.clock.timestamp() - self.rolling_s) // self.slot_s

    def advance(self, now: datetime) -> None:
        """What happens by itself up to ``now``: a period begins, spending leaves a rolling window."""
        if now <= self.clock:
            return
        self.clock = now
        if (minute := int(now.timestamp()) // 60) != self.clock_minute:
            self.clock_minute = minute
            for old in [each for each in self.minutes if each <= minute - 60]:
                del self.minutes[old]
        if now >= self.rolls_at:
            self._roll_over()
        tally = self.current()
        if self.rolling_s is None:
            return
        first = self.first_slot()
        if tally.slots and min(tally.slots) < first:
            for slot in sorted(each for each in tally.slots if each < first):
                amount, entries = tally.slots.pop(slot)
                tally.spent -= amount
                tally.entries -= entries
                self._rearm(tally)

    def _roll_over(self) -> None:
        """What held in periods that are over holds no longer; what was reached late, in a period over already, is left to stand."""
        ends = NEVER
        if self.rolling_s is None:
            for tally in self.tallies.values():
                if tally.late or not any(not reached.over for reached in tally.crossed.values()):
                    continue
                if tally.span.end <= self.clock:
                    self.lapse(tally, "the period is over")
                else:
                    ends = min(ends, tally.span.end)
        self.rolls_at = ends

    def lapse(self, tally: Tally, why: str, thresholds: Iterable[int] | None = None) -> None:
        """``thresholds``, or all that hold, hold no longer; whether they can be reached again is not decided by it."""
        for threshold in tuple(tally.crossed if thresholds is None else thresholds):
            reached = tally.crossed[threshold]
            if not reached.over:
                tally.crossed[threshold] = replace(reached, over=True)
                limit = self.definition.limit_usd
                self.lapsed.append(Lapsed(threshold, reached, self.period(tally), limit, tally.spent, self.clock, why))

    def _rearm(self, tally: Tally) -> None:
        fallen = [each for each in tally.crossed if tally.spent < self.amount(each) * _REARMED_BELOW]
        self.lapse(tally, "spending has left the window", fallen)
        for threshold in fallen:
            del tally.crossed[threshold]
            if threshold == FULL:
                tally.asked.clear()
                tally.agents.clear()

    def current(self) -> Tally:
        """The tally of the period it is now, by the book's clock. Of a rolling window the span moves along."""
        tally = self._tally(self.clock, self.applied)
        if tally is None:
            # The budget was set by a clock ahead of ours: its period has not begun yet here.
            tally = self._tally(self.definition.created_at, self.applied)
        assert tally is not None
        if self.rolling_s is not None:
            tally.span = Span(self.clock - timedelta(seconds=self.rolling_s), self.clock)
        return tally

    def amount(self, threshold: int) -> Decimal:
        """The sum at which ``threshold`` per cent are reached."""
        return self.definition.limit_usd * threshold / FULL
