"""A statement beside the ledger, day by day and model by model. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, Final

from agent_manager.cli.ledger.statements import COUNTS, EVERY_MODEL, Line, Statement
from schemas.prices.finding import Plan, PriceBook

_NINE: Final = Decimal("1e-9")


@dataclass(slots=True)
class Drift:
    """One day and model on both sides."""

    day: date
    model: str
    statement: Line | None = None
    ledger: Line | None = None
    entries: int = 0
    called: set[str] = field(default_factory=set)
    """Names it has on either side."""

    def usd(self) -> Decimal | None:
        """What the ledger says more than the statement; None where the statement has no money."""
        if self.statement is None:
            return (self.ledger.cost_usd if self.ledger else None) or Decimal(0)
        if self.statement.cost_usd is None:
            return None
        ours = self.ledger.cost_usd if self.ledger is not None and self.ledger.cost_usd is not None else Decimal(0)
        return (ours - self.statement.cost_usd).quantize(_NINE)

    def counts(self) -> dict[str, int]:
        """What the ledger counts more than the statement, by what the statement counts."""
        told = self.statement.counts if self.statement is not None else {}
        ours = self.ledger.counts if self.ledger is not None else {}
        return {name: ours.get(name, 0) - count for name, count in told.items()}

    def apart(self, tolerance_percent: Decimal) -> bool:
        """Whether both sides differ by more than the tolerance."""
        if self.statement is None:
            return bool(self.ledger and (self.ledger.cost_usd or any(self.ledger.counts.values())))
        usd = self.usd()
        if usd is not None and abs(usd) * 100 > tolerance_percent * abs(self.statement.cost_usd or Decimal(0)):
            return True
        return any(abs(more) * 100 > tolerance_percent * self.statement.counts[name] for name, more in self.counts().items())


def _key(book: PriceBook, provider: str, model: str) -> str:
    """The book's id of a model, however a statement writes it: `Claude Haiku 4.5` is claude-haiku-4-5."""
    for name in (model, re.sub(r"[\s.]+", "-", model.strip())):
        plan = book.plan(provider, name)
        if isinstance(plan, Plan):
            return plan.priced_as.partition("/")[2]
    return model.strip().lower()


def drifts(statement: Statement, provider: str, days: Iterable[dict[str, Any]], book: PriceBook) -> list[Drift]:
    """Every day and model either side has; ``days`` are rows of the query ``ledger_days``. Only days of the statement count."""
    found: dict[tuple[date, str], Drift] = {}
    covered = {day for day, _ in statement.lines}
    whole = any(model == EVERY_MODEL for _, model in statement.lines)
    counted = {name for line in statement.lines.values() for name in line.counts}
    for (day, model), line in statement.lines.items():
        key = EVERY_MODEL if whole else _key(book, provider, model)
        one = found.setdefault((day, key), Drift(day, key))
        one.statement = one.statement or Line()
        one.statement.add(line)
        one.called.add(model)
    seller = book.providers.get(provider)
    names = {provider, *((seller.id, *seller.names) if seller else ())}
    for row in days:
        day = date.fromisoformat(row["day"])
        if day not in covered or row["provider"].strip().lower() not in names:
            continue
        key = EVERY_MODEL if whole else _key(book, provider, row["model"])
        one = found.setdefault((day, key), Drift(day, key))
        one.ledger = one.ledger or Line()
        one.ledger.add(Line(Decimal(row["cost_usd"]), {name: int(row[name]) for name in COUNTS if name in counted}))
        one.entries += int(row["entries"])
        one.called.add(row["model"])
    return [found[key] for key in sorted(found)]
