"""``agentops ledger list|show``."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from nats.aio.client import Client

from agent_manager.cli import output, readable
from agent_manager.cli.connection import Place, run
from agent_manager.cli.fitting import Column
from agent_manager.cli.ledger.correcting import one_entry, usd
from agent_manager.cli.ledger.reading import EVER, Scope
from agent_manager.cli.ledger.rows import UNIT_PRICE
from agent_manager.cli.query.asking import ask
from schemas.queries import MAX_PAGE


def _note(row: dict[str, Any]) -> str:
    if row["kind"] == "charge" and row["reason"] == "duplicate_call":
        return f"seen again{', differs' if row['differs'] else ''}: {(row['duplicate_of'] or '')[:8]} stands"
    return "unpriced" if row["reason"] == "unpriced" else "reversed" if row["reversed_by"] else ""


def _row(row: dict[str, Any], now: datetime) -> list[str]:
    client, difference = row["client_cost_usd"], row["client_difference_usd"]
    return [
        readable.short_clock(row["occurred_at"], now), row["entry_id"][:8], row["kind"], row["tenant_id"], row["agent_id"],
        f"{row['provider']}/{row['model']}", f"{(row['input_tokens'] or 0):,} → {(row['output_tokens'] or 0):,}",
        usd(Decimal(row["cost_usd"])), _note(row),
        readable.NOTHING if client is None else usd(Decimal(client)), readable.NOTHING if difference is None else usd(Decimal(difference)),
    ]  # fmt: skip


def list_(data: Path | None, scope: Scope, kind: str | None, limit: int, *, only_open: bool, as_json: bool) -> None:
    """The newest entries."""

    async def work(client: Client, _: Place) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for model in scope.models or (None,):
            asked = scope.parameters(model) | {"open": only_open, "newest_first": True, "limit": min(limit, MAX_PAGE)}
            rows += (await ask(client, "ledger", asked | ({"kind": kind} if kind else {}))).rows
        return sorted(rows, key=lambda row: row["stream_sequence"], reverse=True)[:limit]

    rows = run(data, work)
    if as_json:
        output.write_json(rows)
        return
    columns = [
        Column("CALLED", rank=2), Column("ENTRY"), Column("KIND", rank=3), Column("TENANT", rank=6), Column("AGENT"),
        Column("MODEL", rank=1), Column("TOKENS", right=True, rank=4), Column("USD", right=True), Column("NOTE", rank=5),
        Column("CLIENT SAYS", right=True, rank=7), Column("DIFFERENCE", right=True, rank=7),
    ]  # fmt: skip
    now = datetime.now(UTC)
    output.write_table(columns, [_row(row, now) for row in reversed(rows)], empty=f"no entries ({scope.words()})")


def show(data: Path | None, entry: str, *, as_json: bool) -> None:
    """One entry, by what it was priced, and its corrections."""

    async def work(client: Client, _: Place) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        found = await one_entry(client, entry)
        page = await ask(
            client, "ledger", Scope(EVER).parameters() | {"entry": found["event_id"], "tenant": found["tenant_id"], "limit": 100}
        )
        return found, [row for row in page.rows if row["entry_id"] != found["entry_id"]]

    found, others = run(data, work)
    if as_json:
        output.write_json({"entry": found, "same_call": others})
        return
    facts = [
        (name.replace("_", " "), str(value))
        for name, value in found.items()
        if value is not None and value is not False and not name.startswith(UNIT_PRICE)
    ]
    prices = [
        (name.removeprefix(UNIT_PRICE), value)
        for name, value in found.items()
        if name.startswith(UNIT_PRICE) and value is not None
    ]
    output.write_facts(facts)
    output.write_line()
    output.write_table(
        [Column("UNIT"), Column("USD PER MILLION (_K: THOUSAND)", right=True)], prices, empty="without unit prices"
    )
    if others:
        output.write_line()
        output.write_table(
            [Column("SAME CALL"), Column("KIND"), Column("CORRECTS"), Column("USD", right=True), Column("BY"), Column("WHY", wrap=True)],
            ([row["entry_id"], row["kind"], row["corrects"] or "", usd(Decimal(row["cost_usd"])), row["corrected_by"] or "", row["note"] or ""] for row in others),
            empty="",
        )  # fmt: skip
        total = sum((Decimal(row["cost_usd"]) for row in (found, *others)), Decimal(0))
        output.write_line(f"the call costs {usd(total)} USD in all")
