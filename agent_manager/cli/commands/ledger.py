# ruff: noqa: PLC0415 - help and completion must not pay for NATS
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from agent_manager.cli.options import ByTenant, Data, Json

app = typer.Typer(no_args_is_help=True, help="The ledger: entries, whether they are right, corrections, comparisons.")

From = Annotated[
    str | None,
    typer.Option("--from", help="Calls from then on: 30d (ago), today, 2026-11-01. [default: all]", show_default=False),
]
SomeFrom = Annotated[str, typer.Option("--from", help="Calls from then on: 30d (ago), today, 2026-11-01.", show_default=False)]
Until = Annotated[str | None, typer.Option("--until", help="Calls before then.", show_default=False)]
Model = Annotated[
    list[str] | None,
    typer.Option("--model", "-m", help="Only this model, as events or the book name it; repeatable.", show_default=False),
]
Provider = Annotated[
    str | None, typer.Option("--provider", "-p", help="Only this provider, as events name it.", show_default=False)
]
Agent = Annotated[str | None, typer.Option("--agent", "-a", help="Only this agent.", show_default=False)]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why; it stands in the ledger for ever.", show_default=False)]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Write it; without it, it is only shown.")]


@app.command("list", epilog="Example: agentops ledger list --from today --model gpt-4o")
def list_(
    since: From = None, until: Until = None, tenant: ByTenant = None, agent: Agent = None, provider: Provider = None, model: Model = None,
    kind: Annotated[Literal["charge", "reversal", "adjustment"] | None, typer.Option("--kind", help="Only these entries.", show_default=False)] = None,
    only_open: Annotated[bool, typer.Option("--open", help="Only what counts: no reversals, nothing reversed.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=5000, help="At most so many, the newest.")] = 50,
    data: Data = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Show entries, the newest last, with what the client reported and the difference."""
    from agent_manager.cli.ledger import showing
    from agent_manager.cli.ledger.reading import Scope

    scope = Scope.typed(
        datetime.now(UTC), since=since, until=until, tenant=tenant, agent=agent, provider=provider, models=tuple(model or ())
    )
    showing.list_(data, scope, kind, limit, only_open=only_open, as_json=as_json)


@app.command(epilog="Example: agentops ledger show 5d1c22b0")
def show(
    entry: Annotated[str, typer.Argument(metavar="ENTRY_ID", help="Its id, or enough of its beginning.", show_default=False)],
    data: Data = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Show one entry: tokens, unit prices, book version, and what corrects it."""
    from agent_manager.cli.ledger import showing

    showing.show(data, entry, as_json=as_json)


@app.command(epilog="Example: agentops ledger verify --from 2026-11-01 --until 2026-12-01 && echo the month is right")
def verify(
    since: From = None, until: Until = None, tenant: ByTenant = None, data: Data = None, as_json: Json = False
) -> None:  # fmt: skip
    """Compute every entry again from its tokens, unit prices and book version; exit code 1 where one differs."""
    from agent_manager.cli.ledger.reading import Scope
    from agent_manager.cli.ledger.verify import verify as checked

    checked(data, Scope.typed(datetime.now(UTC), since=since, until=until, tenant=tenant), as_json=as_json)


@app.command(epilog="Example: agentops ledger reprice --from 2026-11-01 --model gpt-4o --reason 'discount since November' --yes")
def reprice(
    since: SomeFrom, reason: Reason, until: Until = None, model: Model = None, tenant: ByTenant = None, provider: Provider = None,
    agent: Agent = None,
    book: Annotated[str | None, typer.Option("--book", help="By this version. [default: what is in force]", show_default=False)] = None,
    yes: Yes = False, data: Data = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Charge calls anew: shows what would change, and with --yes writes reversals and adjustments. Safe to repeat."""
    from agent_manager.cli.ledger import correcting
    from agent_manager.cli.ledger.reading import Scope

    scope = Scope.typed(
        datetime.now(UTC), since=since, until=until, tenant=tenant, agent=agent, provider=provider, models=tuple(model or ())
    )
    correcting.reprice(data, scope, book, reason, yes=yes, as_json=as_json)


@app.command(epilog="Example: agentops ledger reverse 5d1c22b0 --reason 'call was a test of ours' --yes")
def reverse(
    entries: Annotated[list[str], typer.Argument(metavar="ENTRY_ID…", help="Ids, or enough of their beginning.", show_default=False)],
    reason: Reason, yes: Yes = False, data: Data = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Take entries back whole, by reversals that name them. Safe to repeat."""
    from agent_manager.cli.ledger import correcting

    correcting.reverse(data, entries, reason, yes=yes, as_json=as_json)


@app.command(epilog="Example: agentops ledger duplicates --from 7d --yes")
def duplicates(
    since: From = None, until: Until = None, tenant: ByTenant = None,
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why.")] = "the same call is charged by another entry",
    yes: Yes = False, data: Data = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Find calls charged twice, by the provider's response id; with --yes take back all but the first charge."""
    from agent_manager.cli.ledger import correcting
    from agent_manager.cli.ledger.reading import Scope

    scope = Scope.typed(datetime.now(UTC), since=since, until=until, tenant=tenant)
    correcting.duplicates(data, scope, reason, yes=yes, as_json=as_json)


@app.command("what-if", epilog="Example: agentops ledger what-if --map claude-sonnet-4-5=claude-haiku-4-5 --from 30d")
def what_if(
    since: SomeFrom, until: Until = None,
    maps: Annotated[list[str] | None, typer.Option("--map", help="OLD=NEW or OLD=PROVIDER/NEW; repeatable.", show_default=False)] = None,
    book: Annotated[str | None, typer.Option("--book", help="By this version. [default: what is in force]", show_default=False)] = None,
    by: Annotated[str, typer.Option("--by", help="Sums by these, comma between: day, model, provider, agent_id, tenant_id.")] = "model",
    model: Model = None, tenant: ByTenant = None, provider: Provider = None, agent: Agent = None, data: Data = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Price what happened as if other models had been called, or by another book; writes nothing."""
    from agent_manager.cli.ledger.reading import Scope
    from agent_manager.cli.ledger.what_if import what_if as compared

    scope = Scope.typed(
        datetime.now(UTC), since=since, until=until, tenant=tenant, agent=agent, provider=provider, models=tuple(model or ())
    )
    compared(data, scope, maps or [], book, [part.strip() for part in by.split(",") if part.strip()], as_json=as_json)


@app.command(epilog="Example: agentops ledger reconcile claude_api_cost_2026_11.csv --tolerance 0.5")
def reconcile(
    file: Annotated[Path, typer.Argument(metavar="FILE.csv", help="A provider's export; its columns say which.", show_default=False)],
    tenant: ByTenant = None, provider: Provider = None,
    tolerance: Annotated[float, typer.Option("--tolerance", min=0, help="Per cent of drift that is told as equal.")] = 0.0,
    data: Data = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Compare a provider's statement with the ledger, day by day and model by model; exit code 1 where they drift apart."""
    from agent_manager.cli.ledger.reconcile import reconcile as compared

    compared(data, file, tenant, provider, tolerance, as_json=as_json)
