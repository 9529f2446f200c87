"""Budgets: what may be spent in a period, what refuses when it is spent, and how it stands."""

from decimal import Decimal
from typing import Annotated, Final, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, PlainSerializer, model_validator

from schemas.model import Count, Identifier, Instant, Lenient, Name, Text, Token, Usd, Wire

BudgetScope = Literal["tenant", "workspace", "project", "agent"]
BudgetPeriod = Literal["hour", "day", "week", "month", "rolling"]
Enforcement = Literal["alert", "stop", "deny"]

DEFAULT_THRESHOLDS: Final = (50, 80, 100)
FULL: Final = 100
"""The threshold that is the limit itself."""
LONGEST_ROLLING_MINUTES: Final = 366 * 24 * 60


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        msg = "is no time zone of the IANA database, such as UTC or Europe/Berlin"
        raise ValueError(msg) from error
    return name


def _decimal(value: Decimal) -> str:
    return format(value, "f")


Zone = Annotated[Name, AfterValidator(_known_zone)]
Sum = Annotated[Decimal, PlainSerializer(_decimal, return_type=str, when_used="json")]
"""US dollars summed up: exact, without the bound of a single amount; a decimal string in JSON."""
Percent = Annotated[int, Field(ge=1, le=FULL)]


class BudgetDefinition(Lenient):
    """Bucket ``budgets``, key ``<tenant>.<budget_id>``: written by people, read by the budget processor."""

    budget_id: Token
    tenant_id: Token
    scope: BudgetScope
    of: Token | None = None
    """The workspace, project or agent; absent for scope ``tenant``."""
    limit_usd: Annotated[Usd, Field(gt=0)]
    period: BudgetPeriod
    rolling_minutes: Annotated[int, Field(ge=1, le=LONGEST_ROLLING_MINUTES)] | None = None
    """How long the window is; for period ``rolling``, and only for it."""
    timezone: Zone = "UTC"
    """Whose hours, days, weeks (from Monday) and months these are."""
    thresholds: Annotated[tuple[Percent, ...], Field(min_length=1, max_length=20)] = DEFAULT_THRESHOLDS
    """Per cent of the limit at which it is told, ascending."""
    enforcement: Enforcement = "alert"
    """What happens at the limit besides: agents in scope are stopped, or doors refuse."""
    created_at: Instant
    updated_at: Instant
    updated_by: Name

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.scope == "tenant") != (self.of is None):
            msg = f"of: a budget of scope {self.scope} names " + ("nothing" if self.scope == "tenant" else f"its {self.scope}")
            raise ValueError(msg)
        if (self.period == "rolling") != (self.rolling_minutes is not None):
            msg = "rolling_minutes: belongs to period rolling, and only to it"
            raise ValueError(msg)
        if list(self.thresholds) != sorted(set(self.thresholds)):
            msg = "thresholds: must ascend, each once"
            raise ValueError(msg)
        if self.enforcement != "alert" and FULL not in self.thresholds:
            msg = f"thresholds: enforcement {self.enforcement} acts at the limit, so {FULL} must be among them"
            raise ValueError(msg)
        return self


class BudgetFlag(Lenient):
    """Bucket ``budget_flags``, key ``<tenant>.<budget_id>``: while it stands and ``until`` is not over, doors refuse its scope."""

    budget_id: Token
    tenant_id: Token
    scope: BudgetScope
    of: Token | None = None
    limit_usd: Usd
    spent_usd: Sum
    """When the flag was set."""
    period: Name
    reason: Text
    since: Instant
    until: Instant
    """End of the period: doors stop refusing then by themselves."""


class Crossing(Lenient):
    """A threshold reached in the present period or window."""

    threshold: Percent
    at: Instant
    event_id: Identifier
    """Of its ``budget.threshold_hit``."""


class BudgetStanding(Lenient):
    """How a budget stands, as the budget processor knows it at ``as_of``."""

    definition: BudgetDefinition
    revision: Count
    """Of the definition: changes with limit, thresholds, scope and period."""
    counted: bool
    """False while what was spent before the budget was set is still being summed up."""
    period: Name
    period_start: Instant
    period_end: Instant
    spent_usd: Sum
    entries: Count
    """Ledger entries in it."""
    percent: Sum
    """Of the limit, one fractional digit."""
    remaining_usd: Sum
    """Negative beyond the limit."""
    crossed: tuple[Crossing, ...] = ()
    enforced: bool = False
    """Whether the limit is reached and something is done about it."""
    burn_last_hour_usd_per_h: Sum
    burn_period_usd_per_h: Sum
    next_threshold: Percent | None = None
    next_threshold_at: Instant | None = None
    """When it is reached at the burn rate of the last hour; absent where not within this period."""
    limit_at: Instant | None = None
    """The same for the limit."""
    ledger_sequence: Count
    """Position in LEDGER up to which it is counted."""


class BudgetsParams(Wire):
    """``query.budgets``: asked of the budget processor itself."""

    tenant: Token | None = None
    budget: Token | None = None


class BudgetsPage(Lenient):
    """The answer to ``query.budgets``."""

    budgets: tuple[BudgetStanding, ...]
    as_of: Instant
    ledger_sequence: Count


def budget_key(tenant: str, budget: str) -> str:
    """``<tenant>.<budget_id>``."""
    return f"{tenant}.{budget}"
