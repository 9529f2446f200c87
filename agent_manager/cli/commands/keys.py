# ruff: noqa: PLC0415 - help and completion must not pay for NATS
from typing import Annotated, Literal

import typer

from agent_manager.cli.options import ByTenant, Data, Json

app = typer.Typer(
    no_args_is_help=True,
    help="Make, list, revoke and replace API keys: of agents that send events to a gateway, of people and programs at the REST API.",
)

Named = Annotated[str, typer.Argument(metavar="KEY", help="Its id, or its name.", show_default=False)]
InTenant = Annotated[str | None, typer.Option("--tenant", "-t", help="Tenant; needed only where a name exists in several.", show_default=False)]  # fmt: skip


@app.command(
    epilog="Examples: agentops keys create ci --tenant demo · KEY=$(agentops keys create bot --tenant demo --agent my-agent --expires 90d) · agentops keys create pager --tenant demo --role operator"
)
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who will use it.", show_default=False)],
    tenant: Annotated[str, typer.Option("--tenant", "-t", help="Whose events it may send, or whose agents it is about.", show_default=False)],
    role: Annotated[Literal["sender", "viewer", "operator", "admin"], typer.Option("--role", "-r", help="sender: for agents, at a gateway. For the REST API: viewer reads, operator also commands agents, admin also changes what they are.")] = "sender",
    agents: Annotated[list[str] | None, typer.Option("--agent", "-a", help="The only agent it may speak for; may be repeated. [default: every one]", show_default=False)] = None,
    expires: Annotated[str | None, typer.Option("--expires", "-e", help="Good for so long: 24h, 90d. [default: until revoked]", show_default=False)] = None,
    data: Data = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Make a key and show it, this once: only its SHA-256 is kept."""
    from agent_manager.cli.keys import showing

    showing.create(data, name, tenant, role, tuple(agents or ()), expires, as_json=as_json)


@app.command("list", epilog="Example: agentops keys list --tenant demo --json")
def list_(tenant: ByTenant = None, data: Data = None, as_json: Json = False) -> None:
    """Show every key by its id, name and last four characters, revoked ones included."""
    from agent_manager.cli.keys import showing

    showing.list_(data, tenant, as_json=as_json)


@app.command(epilog="Example: agentops keys revoke 3f9c2a7be014 --reason 'was in a log'")
def revoke(
    key: Named, tenant: InTenant = None,
    reason: Annotated[str, typer.Option("--reason", help="For the audit trail.")] = "",
    data: Data = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Make a key good for nothing, within a second at every gateway and API."""
    from agent_manager.cli.keys import showing

    showing.revoke(data, key, tenant, reason, as_json=as_json)


@app.command(epilog="Example: agentops keys rotate ci --overlap 24h")
def rotate(
    key: Named, tenant: InTenant = None,
    overlap: Annotated[str, typer.Option("--overlap", help="The old key is good for so long beside the new one.")] = "1h",
    data: Data = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Make a new key in place of an old one, with the same rights, and show it, this once."""
    from agent_manager.cli.keys import showing

    showing.rotate(data, key, tenant, overlap, as_json=as_json)
