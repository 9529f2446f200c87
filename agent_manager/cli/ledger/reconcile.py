"""``agentops ledger reconcile``."""

from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from nats.aio.client import Client

from agent_manager.cli import output, readable
from agent_manager.cli.connection import Place, run
from agent_manager.cli.failure import CommandFailedError
from agent_manager.cli.fitting import Column
from agent_manager.cli.prices.shelf import opened, prices
from agent_manager.cli.query.asking import ask
from schemas.queries import MAX_PAGE

if TYPE_CHECKING:
    from agent_manager.cli.ledger.drifting import Drift
    from agent_manager.cli.ledger.statements import Statement


def _read(file: Path) -> "Statement":
    from agent_manager.cli.ledger.statements import StatementError, read  # noqa: PLC0415 - polars is heavy

    try:
        return read(file)
    except OSError as error:
        raise CommandFailedError(f"{file} cannot be read: {error.strerror}", code=2) from error
    except StatementError as error:
        raise CommandFailedError(f"{file}: {error}", "docs/money.md names the columns", code=2) from error


def _usd(value: Decimal | None) -> str:
    return readable.NOTHING if value is None else f"{value:,.6f}"


def _cells(one: "Drift", tolerance: Decimal) -> list[str]:
    statement = one.statement.cost_usd if one.statement else None
    ledger = one.ledger.cost_usd if one.ledger else None
    usd = one.usd()
    percent = f"{usd / statement * 100:+.2f} %" if usd is not None and statement else ""
    counts = ", ".join(f"{name.removesuffix('_tokens')} {more:+,}" for name, more in one.counts().items() if more)
    if one.statement is None:
        verdict = "only in the ledger"
    elif one.ledger is None:
        verdict = "only in the statement"
    else:
        verdict = "drift" if one.apart(tolerance) else "ok"
    return [
        one.day.isoformat(),
        one.model,
        f"{one.entries:,}",
        _usd(statement),
        _usd(ledger),
        _usd(usd),
        percent,
        counts,
        verdict,
    ]


def reconcile(
    data: Path | None, file: Path, tenant: str | None, provider: str | None, tolerance: float, *, as_json: bool
) -> None:
    """Compares and prints; exits 1 where both sides are apart."""
    statement = _read(file)
    from agent_manager.cli.ledger.drifting import drifts  # noqa: PLC0415 - polars is heavy

    whose = (provider or statement.provider or "").lower()
    if not whose:
        raise CommandFailedError(f"{file} does not say whose statement it is", "Add --provider", code=2)
    if not statement.lines:
        raise CommandFailedError(f"{file} says nothing: {statement.rows} rows without an amount", code=2)
    first, last = min(day for day, _ in statement.lines), max(day for day, _ in statement.lines)

    async def work(client: Client, _: Place) -> "list[Drift]":
        book = await prices(await opened(client), None)
        begin = datetime.combine(first, time(), UTC)
        asked: dict[str, Any] = {
            "since": begin.isoformat(),
            "until": (datetime.combine(last, time(), UTC) + timedelta(days=1)).isoformat(),
            "limit": MAX_PAGE,
        }
        rows: list[dict[str, Any]] = []
        offset: int | None = 0
        while offset is not None:
            page = await ask(client, "ledger_days", asked | {"offset": offset} | ({"tenant": tenant} if tenant else {}), 60.0)
            rows += page.rows
            offset = page.next_offset
        return drifts(statement, whose, rows, book)

    found = run(data, work)
    allowed = Decimal(str(tolerance))
    apart = [one for one in found if one.apart(allowed)]
    theirs = sum((one.statement.cost_usd or Decimal(0) for one in found if one.statement), Decimal(0))
    ours = sum((one.ledger.cost_usd or Decimal(0) for one in found if one.ledger), Decimal(0))
    if as_json:
        output.write_json({
            "file": str(file), "format": statement.format, "provider": whose, "from": first.isoformat(), "to": last.isoformat(),
            "statement_usd": format(theirs, "f"), "ledger_usd": format(ours, "f"), "drift_usd": format(ours - theirs, "f"), "apart": len(apart),
            "rows": [
                {"day": one.day.isoformat(), "model": one.model, "called": sorted(one.called), "entries": one.entries,
                 "statement_usd": None if one.statement is None or one.statement.cost_usd is None else format(one.statement.cost_usd, "f"),
                 "ledger_usd": None if one.ledger is None else format(one.ledger.cost_usd or 0, "f"),
                 "drift_usd": None if (usd := one.usd()) is None else format(usd, "f"), "drift_counts": one.counts(), "apart": one.apart(allowed)}
                for one in found
            ],
        })  # fmt: skip
    else:
        columns = [
            Column("DAY"), Column("MODEL"), Column("ENTRIES", right=True), Column("STATEMENT USD", right=True), Column("LEDGER USD", right=True),
            Column("DRIFT USD", right=True), Column("DRIFT", right=True), Column("COUNTED MORE", wrap=True), Column(""),
        ]  # fmt: skip
        output.write_table(columns, (_cells(one, allowed) for one in found), empty="nothing on either side")
        money = f": statement {theirs:,.6f} USD, ledger {ours:,.6f} USD, drift {ours - theirs:+,.6f}" if theirs else ""
        output.write_line(
            f"{statement.format} of {whose}, {first} to {last}{money}. "
            + (f"{len(apart)} of {len(found)} rows drift apart" if apart else "both sides agree")
        )
    if apart:
        raise typer.Exit(1)
