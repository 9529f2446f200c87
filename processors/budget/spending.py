"""What a message of the ledger says was spent: when, how much, by whom. Pure."""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import orjson

from schemas.budgets import BudgetDefinition, BudgetScope
from streams.micro_batches import lines


class UnreadableEntryError(ValueError):
    """A line of LEDGER is no ledger entry: cost never wrote it. Trying again does not help."""


@dataclass(frozen=True, slots=True)
class Spend:
    """One ledger entry, as far as a budget is concerned. Corrections are negative where they give back."""

    moment: datetime
    """When it counts: when it was priced, which corrections take over; else ``min(occurred_at, received_at + tolerance)``."""
    amount: Decimal
    agent_id: str
    project_id: str | None = None
    workspace_id: str | None = None


def _moment(entry: Mapping[str, Any], tolerance: timedelta) -> datetime:
    # A correction arrives later than what it corrects: its own arrival would move a call from the future into another period.
    priced_at = entry.get("priced_at")
    if priced_at is not None:
        return datetime.fromisoformat(priced_at)
    return min(datetime.fromisoformat(entry["occurred_at"]), datetime.fromisoformat(entry["received_at"]) + tolerance)


def _spend(entry: Mapping[str, Any], tolerance: timedelta) -> Spend:
    moment = _moment(entry, tolerance)
    amount = Decimal(entry["cost_usd"])
    if not amount.is_finite():
        raise InvalidOperation
    return Spend(moment, amount, entry["agent_id"], entry.get("project_id"), entry.get("workspace_id"))


FIELD: Final[Mapping[BudgetScope, str]] = {"workspace": "workspace_id", "project": "project_id", "agent": "agent_id"}
"""Where an entry names whose it is."""


def spends(
    data: bytes, tolerance: timedelta, wanted: Mapping[str, Container[str]] | None = None
) -> tuple[list[Spend], list[str]]:
    """The entries of a message in its order, and what is wrong with the lines that are none.

    ``wanted`` names, by field, whose entries are asked for; None: everybody's.
    """
    found: list[Spend] = []
    wrong: list[str] = []
    for line in lines(data):
        try:
            entry = orjson.loads(line)
            if wanted is None or any(entry.get(name) in those for name, those in wanted.items()):
                found.append(_spend(entry, tolerance))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, InvalidOperation) as error:
            wrong.append(f"{type(error).__name__}: {error}")
    return found, wrong


def in_scope(definition: BudgetDefinition, spent: list[Spend]) -> list[Spend]:
    """Those of ``spent``, all of the definition's tenant, that count against it."""
    if definition.scope == "tenant":
        return spent
    field = FIELD[definition.scope]
    return [each for each in spent if getattr(each, field) == definition.of]
