"""The book of one budget: what is spent in its periods, and which thresholds that reaches. Pure.

A book counts every ledger message after ``live_after`` as it is read. What earlier messages spent is summed up elsewhere and
filled in (``gaps``, ``fill``); until then a period is not judged. Taking a message twice leaves the book as once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from processors.budget.periods import Span, name_of, rolling_name, slot_s, span_of
from processors.budget.spending import Spend, in_scope
from schemas.budgets import FULL, BudgetDefinition
from schemas.ids import derived_id

ZERO: Final = Decimal(0)
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""Key of the one tally of a rolling window."""
MOST_TALLIES: Final = 32
"""Periods kept; what arrives late for an older one makes it be summed up again."""
MOST_AGENTS: Final = 4000
"""Agents remembered as spending in a period, to be stopped at its limit."""
_REARMED_BELOW: Final = Decimal("0.9")
"""A rolling threshold can be reached again once spending has fallen below this share of it: it does not flutter."""
_SLACK: Final = timedelta(minutes=1)
"""What clocks of servers may differ by."""
_HOUR_S: Final = 3600


@dataclass(slots=True)
class Tally:
    """What was spent in one period, or in a rolling window."""

    span: Span
    live_after: int
    """Messages up to this one are not in it unless it is ``counted``."""
    counted: bool
    """Whether everything is in it."""
    late: bool = False
    """Made for spending that came after its period's end."""
    spent: Decimal = ZERO
    entries: int = 0
    slots: dict[int, tuple[Decimal, int]] = field(default_factory=dict)
    """Of a rolling window: sum and entries by slot."""
    crossed: dict[int, "Reached"] = field(default_factory=dict)
    agents: set[str] = field(default_factory=set)
    """Who spent in it, for budgets that stop."""
    asked: set[str] = field(default_factory=set)
    """Whom a stop was asked of."""
    last_agent: str | None = None


@dataclass(frozen=True, slots=True)
class Reached:
    """A threshold, when it was reached, and the event that tells."""

    at: datetime
    event_id: str


@dataclass(frozen=True, slots=True)
class Hit:
    """A threshold was reached just now."""

    threshold: int
    tally: Tally
    reached: Reached


@dataclass(frozen=True, slots=True)
class Gap:
    """Spending in ``span`` by messages up to ``up_to`` that is still to be summed up."""

    key: datetime | None
    """Of the tally; None for the burn rate of the last hour."""
    span: Span
    up_to: int
    slot_s: int | None = None
    """Sums are wanted by slot."""


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

    def __post_init__(self) -> None:
        self.applied = max(self.applied, self.live_after)
        self.clock_minute = int(self.clock.timestamp()) // 60

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
            if slot < self._first_slot():
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
        reach = self.live_at + timedelta(seconds=self.tolerance_s) + _SLACK
        known = key > reach and (self.forgotten is None or key > self.forgotten)
        late = key is not EPOCH and span.end <= self.clock
        tally = self.tallies[key] = Tally(span, live_after, counted=known, late=late)
        # Newest first: the current one is looked for most often.
        self.tallies = dict(sorted(self.tallies.items(), reverse=True))
        for old in list(self.tallies)[MOST_TALLIES:]:
            if old != key and self.tallies[old].counted:
                del self.tallies[old]
                self.forgotten = old if self.forgotten is None else max(old, self.forgotten)
        return tally

    def _first_slot(self) -> int:
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
        tally = self.current()
        if self.rolling_s is None:
            return
        first = self._first_slot()
        if tally.slots and min(tally.slots) < first:
            for slot in sorted(each for each in tally.slots if each < first):
                amount, entries = tally.slots.pop(slot)
                tally.spent -= amount
                tally.entries -= entries
                self._rearm(tally)

    def _rearm(self, tally: Tally) -> None:
        for threshold in [each for each in tally.crossed if tally.spent < self.amount(each) * _REARMED_BELOW]:
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

    def settle(self) -> Iterator[Hit]:
        """Every threshold reached and not told yet, lowest first. From now on they count as told."""
        for key in sorted(self.touched):
            tally = self.tallies.get(key)
            if tally is not None and (not tally.counted or key > self.clock):
                # Its turn comes when all of it is known, and it has begun.
                continue
            self.touched.discard(key)
            if tally is None:
                continue
            for threshold in self.definition.thresholds:
                if threshold not in tally.crossed and tally.spent >= self.amount(threshold):
                    tally.crossed[threshold] = self._reached(key, threshold)
                    yield Hit(threshold, tally, tally.crossed[threshold])

    def _reached(self, key: datetime, threshold: int) -> Reached:
        return Reached(self.clock, self.event_id(key, threshold))

    def event_id(self, key: datetime, threshold: int) -> str:
        """Of the event that tells it: one for ever for each revision, period and threshold."""
        when = f"rolling {self.applied}" if key == EPOCH else key.isoformat()
        definition = self.definition
        revision = f"{definition.created_at.isoformat()} {self.revision}"
        return str(derived_id("budget_threshold", definition.tenant_id, definition.budget_id, revision, when, str(threshold)))

    def exhausted(self) -> Tally | None:
        """The current tally, if the limit is reached in it."""
        tally = self.current()
        return tally if tally.counted and tally.spent >= self.definition.limit_usd else None

    def falls_below_at(self, tally: Tally) -> datetime:
        """When the limit is no longer reached if nothing more is spent: the end of the period."""
        if self.rolling_s is None:
            return tally.span.end
        left = tally.spent
        for slot in sorted(tally.slots):
            left -= tally.slots[slot][0]
            if left < self.definition.limit_usd:
                return EPOCH + timedelta(seconds=(slot + 1) * self.slot_s + self.rolling_s)
        return self.clock

    def gaps(self) -> list[Gap]:
        """What is still to be summed up."""
        found = []
        for key, tally in self.tallies.items():
            if tally.counted:
                continue
            if self.rolling_s is None:
                found.append(Gap(key, tally.span, tally.live_after))
            else:
                start = EPOCH + timedelta(seconds=self._first_slot() * self.slot_s)
                end = self.clock + timedelta(seconds=self.tolerance_s) + _SLACK
                found.append(Gap(key, Span(start, end), tally.live_after, self.slot_s))
        if not self.minutes_counted:
            end = self.clock + timedelta(seconds=self.tolerance_s) + _SLACK
            span = Span(self.clock - timedelta(seconds=_HOUR_S), end)
            found.append(Gap(None, span, self.live_after, 60))
        return found

    def fill(self, gap: Gap, sums: Sequence["Part"]) -> None:
        """Adds what ``gap`` came to. What a late period had reached before is taken as told."""
        if gap.key is None:
            for each in sums:
                minute = each.slot or 0
                if minute > self.clock_minute - 60:
                    self.minutes[minute] = self.minutes.get(minute, ZERO) + each.amount
            self.minutes_counted = True
            return
        tally = self.tallies.get(gap.key)
        if tally is None or tally.counted or tally.live_after != gap.up_to:
            return
        self.touched.add(gap.key)
        if tally.late:
            before = sum((each.amount for each in sums), ZERO)
            for threshold in self.definition.thresholds:
                if before >= self.amount(threshold):
                    tally.crossed[threshold] = self._reached(gap.key, threshold)
        for each in sums:
            if self.rolling_s is not None:
                slot = each.slot or 0
                if slot < self._first_slot():
                    continue
                amount, entries = tally.slots.get(slot, (ZERO, 0))
                tally.slots[slot] = (amount + each.amount, entries + each.entries)
            tally.spent += each.amount
            tally.entries += each.entries
            tally.last_agent = tally.last_agent or each.last_agent
        tally.counted = True

    def redefine(self, definition: BudgetDefinition, revision: int) -> bool:
        """Takes a changed definition over; False where what it counts is another now, and a new book is needed."""
        old = self.definition
        if _basis(old) != _basis(definition):
            return False
        self.definition = definition
        if (old.limit_usd, old.thresholds) != (definition.limit_usd, definition.thresholds):
            self.revision = revision
            current = self.current()
            # What is over was judged by the old terms; should it be spent in again, it is summed up anew.
            for key in [key for key, tally in self.tallies.items() if tally.span.end <= current.span.start]:
                del self.tallies[key]
                self.forgotten = key if self.forgotten is None else max(key, self.forgotten)
            for tally in self.tallies.values():
                tally.crossed.clear()
                tally.asked.clear()
            self.touched.update(self.tallies)
        return True


@dataclass(frozen=True, slots=True)
class Part:
    """A part of what a gap came to."""

    amount: Decimal
    entries: int
    slot: int | None = None
    """Seconds since 1970 divided by the gap's ``slot_s``."""
    last_agent: str | None = None


def _basis(definition: BudgetDefinition) -> tuple[object, ...]:
    """What decides which entries count, and in which period."""
    return (
        definition.scope, definition.of, definition.period, definition.rolling_minutes, definition.timezone,
        definition.created_at,
    )  # fmt: skip
