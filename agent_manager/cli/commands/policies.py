# ruff: noqa: PLC0415 - help and completion must not pay for NATS
from typing import Annotated, Literal

import typer

from agent_manager.cli.options import ByTenant, Data, Json

app = typer.Typer(
    no_args_is_help=True, help="Say which models may not be called, by whom: metered calls are refused with 403 and the reason."
)

Policy = Annotated[str, typer.Argument(metavar="POLICY", help="Its id: letters, digits, - and _.", show_default=False)]
InTenant = Annotated[str | None, typer.Option("--tenant", "-t", help="Tenant; needed only where the policy exists in several.", show_default=False)]  # fmt: skip
Scope = Literal["tenant", "workspace", "project", "agent"]


@app.command(
    "set",
    epilog="Examples: agentops policies set no-large --tenant demo --model 'gpt-5*' --reason 'large models need approval' · "
    "agentops policies set pause --tenant demo --scope agent --of my-agent --for 2h --reason 'under investigation'",
)
def set_(
    policy: Policy,
    tenant: Annotated[str, typer.Option("--tenant", "-t", help="Whose calls.", show_default=False)],
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why: told to whoever is refused, and kept in the audit trail.", show_default=False)],
    scope: Annotated[Scope, typer.Option("--scope", "-s", help="Of the whole tenant, or of a part.")] = "tenant",
    of: Annotated[str | None, typer.Option("--of", help="Which workspace, project or agent.", show_default=False)] = None,
    provider: Annotated[list[str] | None, typer.Option("--provider", help="Whose models; may be repeated. [default: everybody's]", show_default=False)] = None,
    model: Annotated[list[str] | None, typer.Option("--model", help="Which models, * for any characters; may be repeated. [default: all]", show_default=False)] = None,
    for_: Annotated[str | None, typer.Option("--for", help="It ends by itself after so long: 2h, 30d. [default: never]", show_default=False)] = None,
    data: Data = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Refuse model calls from now on, in place of what the policy said before."""
    from agent_manager.cli.policies import showing

    showing.set_(data, policy, tenant, scope, of, provider or [], model or [], for_, reason, as_json=as_json)


@app.command("list", epilog="Example: agentops policies list --tenant demo --json")
def list_(tenant: ByTenant = None, data: Data = None, as_json: Json = False) -> None:
    """Show every policy, those included that are over or cannot be read."""
    from agent_manager.cli.policies import showing

    showing.list_(data, tenant, as_json=as_json)


@app.command(epilog="Example: agentops policies show no-large")
def show(policy: Policy, tenant: InTenant = None, data: Data = None, as_json: Json = False) -> None:
    """Show one policy."""
    from agent_manager.cli.policies import showing

    showing.show(data, policy, tenant, as_json=as_json)


@app.command(epilog="Example: agentops policies delete no-large --reason 'approved'")
def delete(
    policy: Policy, reason: Annotated[str, typer.Option("--reason", "-r", help="Why, for the audit trail.", show_default=False)],
    tenant: InTenant = None, data: Data = None, as_json: Json = False,
) -> None:  # fmt: skip
    """End a policy: what it refused passes again."""
    from agent_manager.cli.policies import showing

    showing.delete(data, policy, tenant, reason, as_json=as_json)
