"""``budgets set|list|show|delete``."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nats.aio.client import Client

from agent_manager.cli import output, readable
from agent_manager.cli.budgets import reading
from agent_manager.cli.budgets.defining import Given, changes, check, defined, period_text, scope_text
from agent_manager.cli.changes import change, check_reason
from agent_manager.cli.connection import Place, run
from agent_manager.cli.failure import CommandFailedError
from agent_manager.cli.fitting import Column
from schemas.budgets import BudgetDefinition, BudgetStanding, budget_key
from streams import subjects

_COLUMNS = (
    Column("BUDGET"), Column("TENANT", rank=5), Column("COUNTS", rank=3), Column("PERIOD", rank=2),
    Column("LIMIT", right=True), Column("SPENT", right=True), Column("%", right=True),
    Column("ENDS", rank=4), Column("$/H LAST HOUR", right=True, rank=6), Column("$/H PERIOD", right=True, rank=7),
    Column("LIMIT REACHED", rank=1), Column("AT THE LIMIT", rank=3),
)  # fmt: skip
_SILENT = (
    "no budget processor answers, so what is spent is unknown: is `python -m processors budget` running? See `agentops doctor`"
)


def _forecast(standing: BudgetStanding, now: datetime) -> str:
    if standing.spent_usd >= standing.definition.limit_usd:
        return "now"
    if standing.limit_at is None:
        return "not in this period" if standing.definition.rolling_minutes is None else "not at this rate"
    return readable.age(standing.limit_at, now)


def _ends(standing: BudgetStanding, now: datetime) -> str:
    return "rolls" if standing.definition.rolling_minutes is not None else readable.age(standing.period_end, now)


def _doing(standing: BudgetStanding | None, definition: BudgetDefinition) -> str:
    if standing is None or not standing.enforced:
        return definition.enforcement
    return {"deny": "doors refuse", "stop": "agents stopped"}.get(definition.enforcement, definition.enforcement)


def _cells(definition: BudgetDefinition, standing: BudgetStanding | None, now: datetime) -> list[str]:
    cells = [
        definition.budget_id,
        definition.tenant_id,
        scope_text(definition),
        period_text(definition),
        readable.money(definition.limit_usd),
    ]
    if standing is None:
        return [*cells, *[readable.NOTHING] * 6, definition.enforcement]
    return [
        *cells,
        readable.money(standing.spent_usd) + ("" if standing.counted else " …"),
        f"{standing.percent} %",
        _ends(standing, now),
        readable.money(standing.burn_last_hour_usd_per_h),
        readable.money(standing.burn_period_usd_per_h),
        _forecast(standing, now),
        _doing(standing, definition),
    ]


def _json(definition: BudgetDefinition, standing: BudgetStanding | None) -> dict[str, Any]:
    told = definition.model_dump(mode="json", exclude_none=True)
    if standing is None:
        return told | {"standing": None}
    return told | {"standing": standing.model_dump(mode="json", exclude_none=True, exclude={"definition"})}


def list_(data: Path | None, tenant: str | None, *, as_json: bool) -> None:
    """Every budget and how it stands."""

    async def work(client: Client, _: Place) -> tuple[dict[str, BudgetDefinition], dict[str, BudgetStanding] | None]:
        return await reading.definitions(client, tenant), await reading.standings(client, tenant)

    defined_ones, told = run(data, work)
    rows = [(each, (told or {}).get(key)) for key, each in defined_ones.items()]
    if as_json:
        output.write_json([_json(*row) for row in rows])
        return
    now = datetime.now(UTC)
    output.write_table(
        _COLUMNS,
        [_cells(*row, now) for row in rows],
        empty="no budgets; set one: agentops budgets set NAME --tenant TENANT --limit 25",
    )
    if rows and told is None:
        output.note(_SILENT)


def _facts(definition: BudgetDefinition, standing: BudgetStanding | None, now: datetime) -> list[tuple[str, str]]:
    facts = [
        ("budget", f"{definition.budget_id} of tenant {definition.tenant_id}"),
        ("counts", f"all of {scope_text(definition)}" if definition.of is None else scope_text(definition)),
        ("period", period_text(definition)),
        ("limit", readable.money(definition.limit_usd)),
        ("thresholds", ", ".join(f"{each} %" for each in definition.thresholds)),
        ("at the limit", _doing(standing, definition)),
        ("set", f"{readable.clock(definition.updated_at)} by {definition.updated_by}"),
    ]
    if standing is None:
        return [*facts, ("spent", "unknown")]
    crossed = [f"{each.threshold} % at {readable.clock(each.at)}" for each in standing.crossed]
    facts += [
        ("spent", f"${standing.spent_usd} ({standing.percent} %, {readable.number(standing.entries, 'ledger entry', 'ledger entries')})"
         + ("" if standing.counted else "; what was spent before is still being summed up")),
        ("left", f"${standing.remaining_usd}" if standing.remaining_usd >= 0 else f"nothing: ${-standing.remaining_usd} over"),
        ("now", f"{standing.period}: {readable.clock(standing.period_start)} to {readable.clock(standing.period_end)}"),
        ("burn rate", (f"{readable.money(standing.burn_last_hour_usd_per_h)} an hour over the last hour, "
         f"{readable.money(standing.burn_period_usd_per_h)} an hour over the period")),
        ("reached", ", ".join(crossed) or "no threshold"),
    ]  # fmt: skip
    if standing.next_threshold is not None:
        when = readable.age(standing.next_threshold_at, now) if standing.next_threshold_at else "not at this rate"
        facts.append((f"{standing.next_threshold} % reached", when))
    return [*facts, ("limit reached", _forecast(standing, now)), ("as of", f"ledger message {standing.ledger_sequence}")]


def _show(definition: BudgetDefinition, standing: BudgetStanding | None, *, as_json: bool) -> None:
    if as_json:
        output.write_json(_json(definition, standing))
        return
    output.write_facts(_facts(definition, standing, datetime.now(UTC)))
    if standing is None:
        output.note(_SILENT)


def show(data: Path | None, budget: str, tenant: str | None, *, as_json: bool) -> None:
    """Everything about one budget."""

    async def work(client: Client, _: Place) -> tuple[BudgetDefinition, BudgetStanding | None]:
        found = await reading.find(client, budget, tenant)
        told = await reading.standings(client, found.tenant_id, found.budget_id)
        return found, (told or {}).get(budget_key(found.tenant_id, found.budget_id))

    definition, standing = run(data, work)
    _show(definition, standing, as_json=as_json)


async def _tenant_of(client: Client, budget: str, tenant: str | None) -> tuple[str, BudgetDefinition | None]:
    if tenant is not None:
        entry = await (await reading.bucket(client)).get(budget_key(tenant, budget))
        return tenant, entry.value if entry else None
    found = [each for each in (await reading.definitions(client, None)).values() if each.budget_id == budget]
    if not found:
        raise CommandFailedError(f"there is no budget {budget!r} yet", "A new one needs --tenant and --limit", code=2)
    if len(found) > 1:
        tenants = ", ".join(each.tenant_id for each in found)
        raise CommandFailedError(f"budget {budget!r} exists in several tenants: {tenants}", "Say which with --tenant")
    return found[0].tenant_id, found[0]


def set_(data: Path | None, budget: str, tenant: str | None, given: Given, reason: str, *, as_json: bool) -> None:
    """Has the budget processor write the budget, and waits until it counts."""
    check(given)
    check_reason(reason)

    async def work(client: Client, place: Place) -> tuple[BudgetDefinition, BudgetStanding | None, bool]:
        where, before = await _tenant_of(client, budget, tenant)
        wanted = defined(budget, where, given, before, now=datetime.now(UTC), by=place.user)
        changed = changes(before, wanted)
        if not changed and before is not None:
            wanted = before
        else:
            await _change(client, place, where, budget, wanted, reason)
        return wanted, await reading.taken_over(client, wanted), changed

    definition, standing, changed = run(data, work)
    if not as_json:
        told = "set" if changed else "is so already"
        output.write_line(
            f"budget {definition.budget_id} of tenant {definition.tenant_id} {told}: {readable.money(definition.limit_usd)} "
            f"a {period_text(definition)} for {scope_text(definition)}, {definition.enforcement} at the limit"
        )
    _show(definition, standing, as_json=as_json)


async def _change(client: Client, place: Place, tenant: str, budget: str, wanted: BudgetDefinition | None, reason: str) -> None:
    revision = await (await reading.bucket(client)).revision(budget_key(tenant, budget))
    value = None if wanted is None else wanted.model_dump(mode="json", exclude_none=True)
    await change(client, place, subjects.BUDGETS, tenant, budget, revision, value, reason, "budget")


def delete(data: Path | None, budget: str, tenant: str | None, reason: str, *, as_json: bool) -> None:
    """Removes one budget."""
    check_reason(reason)

    async def work(client: Client, place: Place) -> BudgetDefinition:
        found = await reading.find(client, budget, tenant)
        await _change(client, place, found.tenant_id, found.budget_id, None, reason)
        return found

    found = run(data, work)
    if as_json:
        output.write_json({"budget_id": found.budget_id, "tenant_id": found.tenant_id, "deleted": True})
    else:
        output.write_line(f"budget {found.budget_id} of tenant {found.tenant_id} deleted; what was spent stays in the ledger")
