"""``agentops ledger verify``."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer
from nats.aio.client import Client

from agent_manager.cli import output
from agent_manager.cli.connection import Place, run
from agent_manager.cli.fitting import Column
from agent_manager.cli.ledger.reading import Scope, entries
from agent_manager.cli.ledger.verifying import MOST_TOLD, Problem, Verdict, check
from agent_manager.cli.prices.shelf import opened
from agent_manager.cli.query.asking import ask
from schemas.prices.finding import PriceBook
from schemas.queries import MAX_PAGE
from streams.prices import PriceShelf, UnknownVersionError


async def _books(shelf: PriceShelf, versions: set[str], known: dict[str, PriceBook | None]) -> None:
    for version in versions - known.keys():
        try:
            known[version] = await shelf.version(version)
        except UnknownVersionError:
            known[version] = None


async def _corrections(client: Client, scope: Scope, verdict: Verdict) -> None:
    """Reversals and adjustments against what they correct, as the warehouse joins them."""
    asked: dict[str, Any] = {name: value for name, value in scope.parameters().items() if name in {"since", "until", "tenant"}}
    offset: int | None = 0
    while offset is not None:
        page = await ask(client, "ledger_problems", asked | {"limit": MAX_PAGE, "offset": offset}, 60.0)
        for row in page.rows:
            verdict.add(Problem(row["entry_id"], row["tenant_id"], row["problem"]))
        offset = page.next_offset


def verify(data: Path | None, scope: Scope, *, as_json: bool) -> None:
    """Computes every entry of ``scope`` again; exits 1 where one differs."""

    async def work(client: Client, _: Place) -> Verdict:
        shelf = await opened(client)
        verdict = Verdict()
        books: dict[str, PriceBook | None] = {}
        async for page in entries(client, scope, only_open=False):
            await _books(shelf, set(page["price_book_version"].unique().to_list()), books)
            check(page.iter_rows(named=True), books, verdict)
            if not as_json and verdict.entries >= 50_000:
                output.note(f"{verdict.entries:,} entries computed again …")
        await _corrections(client, scope, verdict)
        return verdict

    began = datetime.now(UTC)
    found = run(data, work)
    if as_json:
        output.write_json({
            "ok": found.ok, "scope": scope.words(), "entries": found.entries, "corrections": found.corrections, "unpriced": found.unpriced, "seen_again": found.seen_again,
            "total_usd": format(found.total, "f"), "wrong": found.wrong, "versions": found.versions,
            "problems": [{"entry_id": one.entry_id, "tenant_id": one.tenant_id, "problem": one.what} for one in found.told],
        })  # fmt: skip
    else:
        if found.told:
            output.write_table(
                [Column("ENTRY"), Column("TENANT"), Column("PROBLEM", wrap=True)],
                ((one.entry_id, one.tenant_id, one.what) for one in found.told),
                empty="",
            )
            if found.wrong > MOST_TOLD:
                output.write_line(f"… and {found.wrong - MOST_TOLD:,} more")
        again = f", {found.seen_again:,} of calls seen again" if found.seen_again else ""
        seconds = (datetime.now(UTC) - began).total_seconds()
        output.write_line(
            f"{scope.words()}: {found.entries:,} entries ({found.corrections:,} of them corrections, {found.unpriced:,} unpriced{again}), "
            f"{found.total:,.9f} USD, computed again in {seconds:.1f} s: "
            f"{'every one is right' if found.ok else f'{found.wrong:,} differences'}"
        )
        for version, count in sorted(found.versions.items()):
            output.note(f"{count:,} by {version}")
    if not found.ok:
        raise typer.Exit(1)
