# ruff: noqa: PLC0415 - help and completion must not pay for NATS
"""``agentops``: the commands put together, and the edge at which a failure becomes one sentence and an exit code."""

import os
import sys
from typing import Annotated

import typer

from agent_manager.cli.commands import (
    agents,
    alerts,
    auth,
    budgets,
    content,
    dead,
    dev,
    drill,
    events,
    faults,
    keys,
    ledger,
    policies,
    prices,
    query,
    registering,
    snapshots,
    streams,
    system,
    up,
)
from agent_manager.cli.failure import FAILED, INTERRUPTED, CommandFailedError

_PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Watches, bills and heals fleets of AI agents over NATS JetStream.",
    epilog="Begin with: agentops up --demo. NATS is found by NATS_URL, else in the data directory of a running `agentops up`.",
)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context, show_version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False
) -> None:
    if show_version:
        system.version()
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


app.command(rich_help_panel="The system", epilog="Example: agentops up --demo --data ./data")(up.up)
app.command(rich_help_panel="The system", epilog="Example: agentops doctor --json")(system.doctor)
app.command(rich_help_panel="The system", epilog='Example: eval "$(agentops env)" && nats sub "alerts.>"')(system.env)
app.command(rich_help_panel="The system")(system.version)
registering.add_to(agents.app)
app.add_typer(agents.app, name="agents", rich_help_panel="Agents")
app.add_typer(faults.app, name="faults", rich_help_panel="Agents")
app.add_typer(drill.app, name="drill", rich_help_panel="Agents")
app.add_typer(alerts.app, name="alerts", rich_help_panel="Agents")
app.add_typer(events.app, name="events", rich_help_panel="Data")
app.command(
    rich_help_panel="Data",
    context_settings=_PASSED_ON,
    epilog="Example: agentops query runs --agent my-agent --limit 20",
    add_help_option=False,
)(query.query)
app.add_typer(budgets.app, name="budgets", rich_help_panel="Data")
app.add_typer(auth.app, name="auth", rich_help_panel="Parts")
app.add_typer(keys.app, name="keys", rich_help_panel="Parts")
app.add_typer(content.app, name="content", rich_help_panel="Data")
app.add_typer(policies.app, name="policies", rich_help_panel="Data")
app.add_typer(prices.app, name="prices", rich_help_panel="Money")
app.add_typer(ledger.app, name="ledger", rich_help_panel="Money")
app.add_typer(dead.app, name="dead", rich_help_panel="Data")
app.command(rich_help_panel="Data", epilog="Example: agentops audit --last 1h")(system.audit)
app.command(rich_help_panel="Data", epilog="Example: agentops replay --into /tmp/warehouse.duckdb")(snapshots.replay)
app.add_typer(snapshots.app, name="snapshot", rich_help_panel="Data")
app.add_typer(streams.app, name="streams", rich_help_panel="Parts")
app.add_typer(dev.app, name="dev", rich_help_panel="Parts")
app.command(rich_help_panel="Parts", context_settings=_PASSED_ON, add_help_option=False)(system.sidecar)
app.command(rich_help_panel="Parts", context_settings=_PASSED_ON, add_help_option=False)(system.gateway)
app.command(rich_help_panel="Parts", context_settings=_PASSED_ON, add_help_option=False)(system.api)
app.command(rich_help_panel="Parts", context_settings=_PASSED_ON, add_help_option=False)(system.mirror)
app.command(rich_help_panel="Parts", context_settings=_PASSED_ON, add_help_option=False)(system.processors)


def _debugging() -> bool:
    return os.environ.get("AGENTOPS_DEBUG", "") not in {"", "0"}


def _tell(error: Exception) -> int:
    """Prints what a person can use of ``error``; returns the exit code."""
    if isinstance(error, CommandFailedError):
        from agent_manager.cli.output import note

        note(f"agentops: {error}")
        return error.code
    import nats.errors
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        from schemas.errors import field_errors

        told = "; ".join(one.told(one.loc.removeprefix("$.")) for one in field_errors(error))
        sys.stderr.write(
            f"agentops: {error.title} cannot be used: {told}. Correct it; docs/reference/settings.md has every setting\n"
        )
        return FAILED
    if isinstance(error, nats.errors.Error | TimeoutError | ConnectionError):
        sys.stderr.write(
            f"agentops: NATS did not do its part ({type(error).__name__}: {error}). See `agentops doctor`, then try again\n"
        )
    else:
        sys.stderr.write(f"agentops: unexpected {type(error).__name__}: {error}. AGENTOPS_DEBUG=1 shows where\n")
    return FAILED


def main() -> int:
    """Runs what was typed; exits 0, 1 (failed), 2 (wrong usage) or 130 (Ctrl-C)."""
    try:
        app(prog_name="agentops", standalone_mode=True)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our pipe has seen enough; nothing more may be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if _debugging():
            raise
        return _tell(error)
    return 0
