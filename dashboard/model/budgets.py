"""The budgets panel: what was set, how the budget processor says it stands, and where doors refuse. Pure."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal

from dashboard.model.moments import milliseconds
from schemas.budgets import FULL, BudgetDefinition, BudgetFlag, BudgetsPage, BudgetStanding, budget_key

SHOWN: Final = 12
"""The worst; the command line tells all."""
_TONES: Final = {"bad": 0, "warn": 1, "idle": 2, "good": 3}


def period_text(definition: BudgetDefinition) -> str:
    """``day Europe/Berlin``, ``rolling 24 h``."""
    minutes = definition.rolling_minutes
    if minutes is None:
        return f"{definition.period} {definition.timezone}"
    for size, unit in ((1440, "d"), (60, "h")):
        if minutes % size == 0 and (minutes > size or unit == "h"):
            return f"rolling {minutes // size} {unit}"
    return f"rolling {minutes} min"


def scope_text(definition: BudgetDefinition) -> str:
    """``project project-1``, or the whole tenant."""
    return "whole tenant" if definition.of is None else f"{definition.scope} {definition.of}"


def _dollars(amount: Decimal) -> str:
    return format(amount, "f")


def _tone(standing: BudgetStanding | None, flag: BudgetFlag | None) -> Literal["good", "warn", "bad", "idle"]:
    if flag is not None or (standing is not None and standing.percent >= FULL):
        return "bad"
    if standing is None:
        return "idle"
    return "warn" if standing.crossed or standing.limit_at is not None else "good"


def _standing(standing: BudgetStanding) -> dict[str, Any]:
    rolling = standing.definition.rolling_minutes is not None
    return {
        "spent": _dollars(standing.spent_usd),
        "percent": float(standing.percent),
        "counted": standing.counted,
        "ends": None if rolling else milliseconds(standing.period_end),
        "per_hour": _dollars(standing.burn_last_hour_usd_per_h),
        "limit_at": milliseconds(standing.limit_at),
        "crossed": [{"threshold": one.threshold, "at": milliseconds(one.at)} for one in standing.crossed],
        "enforced": standing.enforced,
    }


def row(definition: BudgetDefinition, standing: BudgetStanding | None, flag: BudgetFlag | None) -> dict[str, Any]:
    """One budget as it is shown; ``standing`` None: nobody has said how it stands."""
    return {
        "key": budget_key(definition.tenant_id, definition.budget_id),
        "id": definition.budget_id,
        "tenant": definition.tenant_id,
        "counts": scope_text(definition),
        "period": period_text(definition),
        "rolling": definition.rolling_minutes is not None,
        "limit": _dollars(definition.limit_usd),
        "thresholds": list(definition.thresholds),
        "enforcement": definition.enforcement,
        "tone": _tone(standing, flag),
        "standing": None if standing is None else _standing(standing),
        "refuses_until": milliseconds(flag.until) if flag else None,
        "reason": flag.reason if flag else None,
    }


@dataclass(frozen=True, slots=True)
class Processor:
    """How the dashboard stands with the budget processor."""

    state: Literal["unknown", "answering", "silent"]
    since_ms: int = 0
    message: str = ""


class BudgetBoard:
    """All budgets. ``told`` is what the page shows; ``changed`` whether that may differ from what was told last."""

    def __init__(self) -> None:
        self.definitions: dict[str, BudgetDefinition] = {}
        self.flags: dict[str, BudgetFlag] = {}
        self.standings: dict[str, BudgetStanding] = {}
        self.processor = Processor("unknown")
        self.changed = False

    def define(self, key: str, definition: BudgetDefinition | None) -> None:
        """Takes a budget as it is set now; None: it is no more."""
        if definition is None:
            self.definitions.pop(key, None)
        else:
            self.definitions[key] = definition
        self.changed = True

    def flag(self, key: str, flag: BudgetFlag | None) -> None:
        """Takes by what doors refuse; None: they do not any more."""
        if flag is None:
            self.flags.pop(key, None)
        else:
            self.flags[key] = flag
        self.changed = True

    def expire(self, now_ms: int) -> None:
        """Doors stop refusing at a flag's time by themselves, whether or not anybody takes it down."""
        over = [key for key, flag in self.flags.items() if (milliseconds(flag.until) or 0) <= now_ms]
        for key in over:
            self.flag(key, None)

    def stand(self, page: BudgetsPage, now_ms: int) -> None:
        """Takes an answer of the budget processor."""
        found = {budget_key(each.definition.tenant_id, each.definition.budget_id): each for each in page.budgets}
        if self.processor.state != "answering":
            self.processor = Processor("answering", now_ms)
            self.changed = True
        if found != self.standings:
            self.standings = found
            self.changed = True

    def silence(self, why: str, now_ms: int) -> None:
        """The budget processor did not answer: its last answer stays."""
        if (self.processor.state, self.processor.message) != ("silent", why):
            since = self.processor.since_ms if self.processor.state == "silent" else now_ms
            self.processor = Processor("silent", since, why)
            self.changed = True

    def _standing(self, key: str) -> BudgetStanding | None:
        """How it stands as it is set now; what is told of an older limit is no answer."""
        found = self.standings.get(key)
        return found if found is not None and found.definition == self.definitions[key] else None

    def told(self) -> dict[str, Any]:
        """What the page shows: the worst first."""
        rows = [row(each, self._standing(key), self.flags.get(key)) for key, each in self.definitions.items()]
        rows.sort(key=lambda one: (_TONES[one["tone"]], -(one["standing"] or {}).get("percent", 0.0), one["key"]))
        told = self.processor
        return {
            "state": told.state,
            "since": told.since_ms,
            "message": told.message,
            "total": len(rows),
            "over": sum(one["tone"] == "bad" for one in rows),
            "rows": rows[:SHOWN],
        }
