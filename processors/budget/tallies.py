"""What was spent in a period, what of that was reached, and what is still to be summed up: the values books are made of. Pure."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from processors.budget.periods import Span

ZERO: Final = Decimal(0)
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""Key of the one tally of a rolling window."""
NEVER: Final = datetime(9999, 1, 1, tzinfo=UTC)
SLACK: Final = timedelta(minutes=1)
"""What clocks of servers may differ by."""


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
    agent: str | None = None
    """Who had spent last."""
    over: bool = False
    """That it holds no longer was told."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A threshold was reached just now."""

    threshold: int
    tally: Tally
    reached: Reached


@dataclass(frozen=True, slots=True)
class Lapsed:
    """A threshold that had been told holds no longer."""

    threshold: int
    reached: Reached
    period: str
    limit: Decimal
    spent: Decimal
    at: datetime
    why: str


@dataclass(frozen=True, slots=True)
class Gap:
    """Spending in ``span`` by messages up to ``up_to`` that is still to be summed up."""

    key: datetime | None
    """Of the tally; None for the burn rate of the last hour."""
    span: Span
    up_to: int
    slot_s: int | None = None
    """Sums are wanted by slot."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of what a gap came to."""

    amount: Decimal
    entries: int
    slot: int | None = None
    """Seconds since 1970 divided by the gap's ``slot_s``."""
    last_agent: str | None = None
