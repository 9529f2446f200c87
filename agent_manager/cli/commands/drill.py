# ruff: noqa: PLC0415 - help and completion must not pay for NATS
from pathlib import Path
from typing import Annotated

import typer

from agent_manager.cli import completion
from agent_manager.cli.options import Data, Json, OneTenant

app = typer.Typer(
    no_args_is_help=True, help="Practise trouble: faults by a plan, and whether they were noticed and healed, scored."
)

Drills = Annotated[
    list[str], typer.Argument(metavar="FILE…", help="YAML files, builtin/NAME, or builtin/all.", show_default=False)
]  # fmt: skip


@app.command(epilog="Example: agentops drill run builtin/all --html report.html")
def run(
    drills: Drills,
    agent: Annotated[str | None, typer.Option("--agent", help="Strike this agent, whatever the file says.", show_default=False, autocompletion=completion.agents)] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write the report there, too.", show_default=False)] = None,
    patience: Annotated[float, typer.Option("--patience", min=0.1, max=20, help="Stretches every limit, for slow machines.")] = 1.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the files and say what would be done.")] = False,
    data: Data = None, tenant: OneTenant = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Run drills against the running system; exits 1 where one did not pass. Faults are taken back whatever happens."""
    from agent_manager.cli.drills import showing

    if dry_run:
        showing.show_plan(drills, as_json=as_json)
        return
    showing.run_all(data, drills, tenant, agent, patience=patience, html=html, as_json=as_json)


@app.command("list", epilog="Example: agentops drill list")
def list_(as_json: Json = False) -> None:
    """Show the drills that come along."""
    from agent_manager.cli.drills import showing

    showing.drills(as_json=as_json)
