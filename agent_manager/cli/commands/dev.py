"""``agentops dev``: what one tries things with."""

import typer

from agent_manager.cli.commands.system import as_typed, become

PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}

app = typer.Typer(no_args_is_help=True, help="Stand-ins for services that cost money.")


@app.command("fake-cloud-run", context_settings=PASSED_ON, add_help_option=False)
def fake_cloud_run(context: typer.Context) -> None:
    """Play Cloud Run's Admin API on this machine; try --help for its options."""
    become("agent_manager.drivers.fake_cloud_run", as_typed(context))
