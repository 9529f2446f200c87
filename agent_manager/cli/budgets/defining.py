"""A budget from what was typed, checked before anything is written. Pure: now is an argument."""

import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final, get_args

from pydantic import ValidationError

from agent_manager.cli.failure import CommandFailedError
from agent_manager.cli.when import NotATimeError, seconds
from schemas.budgets import BudgetDefinition, BudgetPeriod
from schemas.errors import field_errors
from schemas.ids import is_token

_ROLLING: Final = re.compile(r"rolling[-: ]?(.+)")
_DECIMAL: Final = re.compile(r"Decimal\('([^']*)'\)")
_OPTION: Final = {
    "limit_usd": "limit", "rolling_minutes": "period", "enforcement": "enforce", "tenant_id": "tenant",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Given:
    """The options as typed; None was not given."""

    limit: str | None = None
    scope: str | None = None
    of: str | None = None
    period: str | None = None
    timezone: str | None = None
    thresholds: str | None = None
    enforcement: str | None = None


def _limit(text: str) -> Decimal:
    try:
        amount = Decimal(text.strip().removeprefix("$").replace(",", ""))
    except InvalidOperation as error:
        raise CommandFailedError(f"--limit: {text!r} is no amount", "Write US dollars, such as 25 or 0.50", code=2) from error
    if not amount.is_finite() or amount <= 0:
        raise CommandFailedError(f"--limit: must be above 0 (is {text})", "To block all spending set it to 0.000000001", code=2)
    return amount


def _period(text: str) -> dict[str, Any]:
    wanted = text.strip().lower()
    calendar = [name for name in get_args(BudgetPeriod) if name != "rolling"]
    if wanted in calendar:
        return {"period": wanted, "rolling_minutes": None}
    found = _ROLLING.fullmatch(wanted)
    advice = f"Use {', '.join(calendar)}, or rolling-24h, rolling-7d, rolling-90m"
    if found is None:
        raise CommandFailedError(f"--period: {text!r} is no period", advice, code=2)
    try:
        whole = seconds(found[1])
    except NotATimeError as error:
        raise CommandFailedError(f"--period: {error}", advice, code=2) from error
    if whole < 60 or whole % 60:
        raise CommandFailedError(f"--period: {text!r} must be whole minutes", advice, code=2)
    return {"period": "rolling", "rolling_minutes": int(whole) // 60}


def _thresholds(text: str) -> tuple[int, ...]:
    try:
        return tuple(sorted({int(part.strip().removesuffix("%")) for part in text.split(",") if part.strip()}))
    except ValueError as error:
        raise CommandFailedError(
            f"--thresholds: {text!r} are no percentages", "Write whole numbers from 1 to 100, such as 50,80,100", code=2
        ) from error


def check(given: Given) -> None:
    """Raises CommandFailedError for what cannot be right whatever the budget was before."""
    if given.limit is not None:
        _limit(given.limit)
    if given.period is not None:
        _period(given.period)
    if given.thresholds is not None:
        _thresholds(given.thresholds)


def defined(
    budget: str, tenant: str, given: Given, before: BudgetDefinition | None, *, now: datetime, by: str
) -> BudgetDefinition:
    """The budget as it is to be; raises CommandFailedError naming option, value and what to do."""
    for option, value in (("BUDGET", budget), ("--tenant", tenant), ("--of", given.of)):
        if value is not None and not is_token(value):
            raise CommandFailedError(f"{option}: {value!r} is no id", "Use 1 to 64 letters, digits, - and _", code=2)
    if before is None and given.limit is None:
        raise CommandFailedError(f"there is no budget {budget!r} of tenant {tenant!r} yet", "A new one needs --limit", code=2)
    base: dict[str, Any] = {
        "budget_id": budget, "tenant_id": tenant, "scope": "tenant", "period": "month", "created_at": now,
    } if before is None else before.model_dump()  # fmt: skip
    if given.scope is not None:
        base |= {
            "scope": given.scope,
            "of": None if given.scope == "tenant" or given.scope != base.get("scope") else base.get("of"),
        }
    if given.of is not None:
        base["of"] = given.of
    if base["scope"] != "tenant" and base.get("of") is None:
        raise CommandFailedError(f"--scope {base['scope']} needs a name", f"Say which {base['scope']} with --of", code=2)
    if base["scope"] == "tenant" and base.get("of") is not None:
        raise CommandFailedError(
            f"--of {base['of']}: a budget of scope tenant counts the whole tenant",
            "Say --scope workspace, project or agent",
            code=2,
        )
    if given.limit is not None:
        base["limit_usd"] = _limit(given.limit)
    if given.period is not None:
        base |= _period(given.period)
    if given.timezone is not None:
        base["timezone"] = given.timezone
    if given.thresholds is not None:
        base["thresholds"] = _thresholds(given.thresholds)
    if given.enforcement is not None:
        base["enforcement"] = given.enforcement
    try:
        return BudgetDefinition(**(base | {"updated_at": now, "updated_by": by}))
    except ValidationError as error:
        raise CommandFailedError("; ".join(map(_told, field_errors(error))), code=2) from error


def _told(problem: Any) -> str:
    name = problem.loc.removeprefix("$").removeprefix(".").partition("[")[0]
    message = problem.msg
    if not name:
        field, _, rest = message.partition(": ")
        return f"--{_OPTION.get(field, field)}: {rest}" if rest else message
    value = None if problem.value is None else _DECIMAL.sub(lambda found: format(Decimal(found[1]), "f"), problem.value)
    return f"--{_OPTION.get(name, name)}: {message}{f' (is {value})' if value is not None else ''}"


def changes(before: BudgetDefinition | None, after: BudgetDefinition) -> bool:
    """Whether there is anything to write."""
    if before is None:
        return True
    apart = {"updated_at": before.updated_at, "updated_by": before.updated_by}
    return after.model_copy(update=apart) != before


def period_text(definition: BudgetDefinition) -> str:
    """``day Europe/Berlin``, ``rolling 24h``."""
    minutes = definition.rolling_minutes
    if minutes is None:
        return f"{definition.period} {definition.timezone}"
    for size, unit in ((1440, "d"), (60, "h")):
        if minutes % size == 0 and (minutes > size or unit == "h"):
            return f"rolling {minutes // size}{unit}"
    return f"rolling {minutes}m"


def scope_text(definition: BudgetDefinition) -> str:
    """``project project-1``, or the whole tenant."""
    return "tenant" if definition.of is None else f"{definition.scope} {definition.of}"
