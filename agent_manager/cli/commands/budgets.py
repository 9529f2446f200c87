# ruff: noqa: PLC0415 - help and completion must not pay for NATS
from typing import Annotated, Literal

import typer

from agent_manager.cli.options import ByTenant, Data, Json

app = typer.Typer(no_args_is_help=True, help="Set what may be spent in a period, and see how it stands.")

_TENANT_HELP = "Tenant; needed only where the budget exists in several."
Scope = Literal["tenant", "workspace", "project", "agent"]
Enforcement = Literal["alert", "stop", "deny"]
Name = Annotated[str, typer.Argument(metavar="BUDGET", help="Its id: letters, digits, - and _.", show_default=False)]


@app.command(
    "set",
    epilog="Examples: agentops budgets set team-a --tenant demo --scope project --of project-1 --limit 25.00 --period day "
    "--timezone Europe/Berlin --enforce deny · agentops budgets set team-a --limit 40",
)
def set_(
    budget: Name,
    limit: Annotated[str | None, typer.Option("--limit", "-l", help="US dollars in a period; up to nine decimals.", show_default=False)] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", "-t", help="Whose budget it is.", show_default=False)] = None,
    scope: Annotated[Scope | None, typer.Option("--scope", "-s", help="Whose spending counts. [default: tenant]", show_default=False)] = None,
    of: Annotated[str | None, typer.Option("--of", help="Which workspace, project or agent.", show_default=False)] = None,
    period: Annotated[str | None, typer.Option("--period", "-p", help="hour, day, week, month, or rolling such as rolling-24h, rolling-7d. [default: month]", show_default=False)] = None,
    timezone: Annotated[str | None, typer.Option("--timezone", "-z", help="Whose hours, days, weeks and months these are. [default: UTC]", show_default=False)] = None,
    thresholds: Annotated[str | None, typer.Option("--thresholds", help="Per cent of the limit at which an alert is raised. [default: 50,80,100]", show_default=False)] = None,
    enforce: Annotated[Enforcement | None, typer.Option("--enforce", "-e", help="At the limit: alert only, stop the agents, or deny (doors answer 429). [default: alert]", show_default=False)] = None,
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why, for the audit trail.")] = "by hand",
    data: Data = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Create a budget, or change what is given of it; the rest stays as it is."""
    from agent_manager.cli.budgets import showing
    from agent_manager.cli.budgets.defining import Given

    given = Given(limit=limit, scope=scope, of=of, period=period, timezone=timezone, thresholds=thresholds, enforcement=enforce)
    showing.set_(data, budget, tenant, given, reason, as_json=as_json)


@app.command("list", epilog="Example: agentops budgets list --tenant demo --json")
def list_(tenant: ByTenant = None, data: Data = None, as_json: Json = False) -> None:
    """Show every budget: limit, spent, end of the period, burn rate, and when the limit will be reached."""
    from agent_manager.cli.budgets import showing

    showing.list_(data, tenant, as_json=as_json)


@app.command(epilog="Example: agentops budgets show team-a")
def show(
    budget: Name,
    tenant: Annotated[str | None, typer.Option("--tenant", "-t", help=_TENANT_HELP, show_default=False)] = None,
    data: Data = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Show everything about one budget."""
    from agent_manager.cli.budgets import showing

    showing.show(data, budget, tenant, as_json=as_json)


@app.command(epilog="Example: agentops budgets delete team-a")
def delete(
    budget: Name,
    tenant: Annotated[str | None, typer.Option("--tenant", "-t", help=_TENANT_HELP, show_default=False)] = None,
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why, for the audit trail.")] = "by hand",
    data: Data = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Remove a budget; doors that refused by it open at once."""
    from agent_manager.cli.budgets import showing

    showing.delete(data, budget, tenant, reason, as_json=as_json)
