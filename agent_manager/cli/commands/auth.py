# ruff: noqa: PLC0415 - help and completion must not pay for NATS
from typing import Annotated, Literal

import typer

from agent_manager.cli.options import Data, Json

app = typer.Typer(no_args_is_help=True, help="Logins at NATS for people and programs of your own, each with a role.")
user = typer.Typer(no_args_is_help=True, help="Add, list, replace and revoke logins.")
app.add_typer(user, name="user")

Named = Annotated[str, typer.Argument(metavar="NAME", help="The login; also the sender in the audit trail.", show_default=False)]


@user.command(epilog="Example: eval \"$(agentops auth user add alice --role operator --tenant '*')\"")
def add(
    name: Named,
    role: Annotated[Literal["viewer", "operator", "admin"], typer.Option("--role", "-r", help="viewer listens, operator commands agents too, admin also sets budgets and policies.")],
    tenant: Annotated[list[str], typer.Option("--tenant", "-t", help="Whose agents; may be repeated; '*' for every tenant's.", show_default=False)],
    data: Data = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Make a login and show its password, this once."""
    from agent_manager.cli.auth import showing

    showing.add(data, name, role, tuple(tenant), as_json=as_json)


@user.command("list", epilog="Example: agentops auth user list --json")
def list_(data: Data = None, as_json: Json = False) -> None:
    """Show every login, revoked ones included."""
    from agent_manager.cli.auth import showing

    showing.list_(data, as_json=as_json)


@user.command(epilog="Example: agentops auth user rotate alice")
def rotate(name: Named, data: Data = None, as_json: Json = False) -> None:
    """Make another password and show it, this once; the old one ends at once."""
    from agent_manager.cli.auth import showing

    showing.rotate(data, name, as_json=as_json)


@user.command(epilog="Example: agentops auth user revoke alice")
def revoke(name: Named, data: Data = None, as_json: Json = False) -> None:
    """End a login and its connections."""
    from agent_manager.cli.auth import showing

    showing.revoke(data, name, as_json=as_json)


@app.command(epilog="Example: agentops auth config > users.json")
def config(data: Data = None) -> None:
    """Print the users for the configuration of a NATS server of your own: permissions and hashes, never passwords."""
    from agent_manager.cli.auth import showing

    showing.config(data)
