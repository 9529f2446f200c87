# ruff: noqa: PLC0415 - help and completion must not pay for NATS
from typing import Annotated, Literal

import typer

from agent_manager.cli.options import ByTenant, Data, Json

app = typer.Typer(no_args_is_help=True, help="List, watch and acknowledge alerts.")


@app.command("list", epilog="Example: agentops alerts list --state all --severity critical --json")
def list_(
    state: Annotated[Literal["active", "firing", "acknowledged", "resolved", "all"], typer.Option("--state", help="active: firing or acknowledged.")] = "active",
    severity: Annotated[Literal["info", "warning", "critical"] | None, typer.Option("--severity", help="Only this severity.", show_default=False)] = None,
    agent: Annotated[str | None, typer.Option("--agent", "-a", help="Only this agent.", show_default=False)] = None,
    tenant: ByTenant = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many, newest first.")] = 100,
    data: Data = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Show alerts with their present state, newest first."""
    from agent_manager.cli.alerts import showing

    showing.list_(data, state=state, tenant=tenant, agent=agent, severity=severity, limit=limit, as_json=as_json)


@app.command(epilog="Example: agentops alerts tail --json | my-pager")
def tail(
    tenant: ByTenant = None,
    most: Annotated[int | None, typer.Option("--count", "-n", min=1, help="End after so many.", show_default=False)] = None,
    data: Data = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Watch alerts begin, be acknowledged and end, until Ctrl-C."""
    from agent_manager.cli.alerts import showing

    showing.tail(data, tenant, most, as_json=as_json)


@app.command(epilog="Example: agentops alerts ack 3f2a --note 'rolling back'")
def ack(
    alert_id: Annotated[str, typer.Argument(metavar="ALERT_ID", help="Its id, or enough of its beginning.", show_default=False)],
    note: Annotated[str | None, typer.Option("--note", help="For whoever looks next.", show_default=False)] = None,
    by: Annotated[str | None, typer.Option("--by", help="Your name. [default: your login]", show_default=False)] = None,
    data: Data = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Say that you have seen an alert and look after it."""
    from agent_manager.cli.alerts import showing

    showing.acknowledge(data, alert_id, note, by, as_json=as_json)
