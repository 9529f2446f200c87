# ruff: noqa: PLC0415 - help and completion must not pay for NATS
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from agent_manager.cli import completion
from agent_manager.cli.failure import CommandFailedError
from agent_manager.cli.options import ByTenant, Data, Json, OneTenant, Timeout

if TYPE_CHECKING:
    from schemas.commands import CommandName

app = typer.Typer(no_args_is_help=True, help="List agents, start, stop and heal them, read their logs.")

AgentIds = Annotated[
    list[str] | None, typer.Argument(metavar="AGENT…", help="Agent ids.", show_default=False, autocompletion=completion.agents)
]
AgentId = Annotated[str, typer.Argument(metavar="AGENT", help="Agent id.", show_default=False, autocompletion=completion.agents)]
All = Annotated[bool, typer.Option("--all", help="Every agent (with --tenant: of that tenant).")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="Every agent with this tag; may be repeated.", show_default=False)]
AtOnce = Annotated[int, typer.Option("--max-parallel", min=1, max=1000, help="So many at a time.")]
StopOnFailure = Annotated[bool, typer.Option("--stop-on-failure", help="After a failure begin no further one.")]
Deadline = Annotated[
    float | None, typer.Option("--deadline", min=0.1, help="Seconds after which none is begun any more.", show_default=False)
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say whom it would be given.")]


@app.command("list", epilog="Example: agentops agents list --json | jq -r '.[] | select(.health != \"HEALTHY\") | .agent_id'")
def list_(data: Data = None, tenant: ByTenant = None, as_json: Json = False) -> None:
    """Show every agent with its state, health, latency and errors, the unhealthy first."""
    from agent_manager.cli.fleet import showing

    showing.agents(data, tenant, as_json=as_json)


@app.command(epilog="Example: agentops agents show chat-service")
def show(agent: AgentId, data: Data = None, tenant: OneTenant = None, as_json: Json = False) -> None:
    """Show everything about one agent."""
    from agent_manager.cli.fleet import showing

    showing.agent(data, agent, tenant, as_json=as_json)


def _give(
    command: "CommandName", agents: list[str] | None, everyone: bool, tags: list[str] | None, data: Path | None, tenant: str | None,
    timeout: float, as_json: bool, *, max_parallel: int, stop_on_failure: bool, deadline: float | None, dry_run: bool,
) -> None:  # fmt: skip
    from agent_manager.cli.fleet import telling
    from agent_manager.cli.fleet.bulk import Everyone, Pace, Tagged

    if sum(map(bool, (agents, everyone, tags))) != 1:
        advice = f"Name them (`agentops agents {command} chat-service`), or give --tag, or --all"
        raise CommandFailedError("which agents?", advice, code=2)
    meant = agents or (Tagged(tuple(tags)) if tags else Everyone())
    pace = Pace(max_parallel, stop_on_failure, deadline)
    telling.tell(data, meant, tenant, command, {}, timeout_s=timeout, as_json=as_json, pace=pace, dry_run=dry_run)


@app.command(epilog="Example: agentops agents start chat-service")
def start(
    agents: AgentIds = None,
    everyone: All = False, tag: Tags = None, max_parallel: AtOnce = 16, stop_on_failure: StopOnFailure = False,
    deadline: Deadline = None, dry_run: DryRun = False,
    data: Data = None, tenant: OneTenant = None, timeout: Timeout = 30, as_json: Json = False,
) -> None:  # fmt: skip
    """Start agents and wait until the manager has done so."""
    _give(
        "start", agents, everyone, tag, data, tenant, timeout, as_json,
        max_parallel=max_parallel, stop_on_failure=stop_on_failure, deadline=deadline, dry_run=dry_run,
    )  # fmt: skip


@app.command(epilog="Example: agentops agents stop chat-service summary-service")
def stop(
    agents: AgentIds = None,
    everyone: All = False, tag: Tags = None, max_parallel: AtOnce = 16, stop_on_failure: StopOnFailure = False,
    deadline: Deadline = None, dry_run: DryRun = False,
    data: Data = None, tenant: OneTenant = None, timeout: Timeout = 30, as_json: Json = False,
) -> None:  # fmt: skip
    """Stop agents; they stay stopped until they are started again."""
    _give(
        "stop", agents, everyone, tag, data, tenant, timeout, as_json,
        max_parallel=max_parallel, stop_on_failure=stop_on_failure, deadline=deadline, dry_run=dry_run,
    )  # fmt: skip


@app.command(epilog="Example: agentops agents restart --tag critical --max-parallel 4 --stop-on-failure")
def restart(
    agents: AgentIds = None,
    everyone: All = False, tag: Tags = None, max_parallel: AtOnce = 16, stop_on_failure: StopOnFailure = False,
    deadline: Deadline = None, dry_run: DryRun = False,
    data: Data = None, tenant: OneTenant = None, timeout: Timeout = 30, as_json: Json = False,
) -> None:  # fmt: skip
    """Stop agents and start them again."""
    _give(
        "restart", agents, everyone, tag, data, tenant, timeout, as_json,
        max_parallel=max_parallel, stop_on_failure=stop_on_failure, deadline=deadline, dry_run=dry_run,
    )  # fmt: skip


@app.command(epilog="Example: agentops agents recover chat-service --timeout 60")
def recover(
    agents: AgentIds = None,
    everyone: All = False, tag: Tags = None, max_parallel: AtOnce = 16, stop_on_failure: StopOnFailure = False,
    deadline: Deadline = None, dry_run: DryRun = False,
    data: Data = None, tenant: OneTenant = None, timeout: Timeout = 60, as_json: Json = False,
) -> None:  # fmt: skip
    """Clear agents' faults, restart them and verify that they are healthy."""
    _give(
        "recover", agents, everyone, tag, data, tenant, timeout, as_json,
        max_parallel=max_parallel, stop_on_failure=stop_on_failure, deadline=deadline, dry_run=dry_run,
    )  # fmt: skip


@app.command(epilog="Example: agentops agents healing chat-service off")
def healing(
    agent: AgentId,
    switch: Annotated[Literal["on", "off"], typer.Argument(help="Whether it is healed by itself.")],
    data: Data = None, tenant: OneTenant = None, timeout: Timeout = 30, as_json: Json = False,
) -> None:  # fmt: skip
    """Switch self-healing of one agent on or off."""
    from agent_manager.cli.fleet import telling

    telling.tell(data, [agent], tenant, "set_healing", {"enabled": switch == "on"}, timeout_s=timeout, as_json=as_json)


@app.command(
    epilog="Examples: agentops agents maintenance chat-service --for 2h --reason 'new disk' · agentops agents maintenance --all --end"
)
def maintenance(
    agents: AgentIds = None,
    everyone: All = False, tag: Tags = None,
    lasting: Annotated[str, typer.Option("--for", help="How long: 30m, 2h, 1d.")] = "1h",
    end: Annotated[bool, typer.Option("--end", help="End it now.")] = False,
    reason: Annotated[str | None, typer.Option("--reason", help="Kept in the audit trail.", show_default=False)] = None,
    data: Data = None, tenant: OneTenant = None, timeout: Timeout = 30, as_json: Json = False,
) -> None:  # fmt: skip
    """Leave agents alone for a while: no self-healing, no incidents."""
    from datetime import UTC, datetime, timedelta

    from agent_manager.cli.fleet import telling
    from agent_manager.cli.fleet.bulk import Everyone, Tagged
    from agent_manager.cli.when import NotATimeError, seconds

    if sum(map(bool, (agents, everyone, tag))) != 1:
        advice = "Name them (`agentops agents maintenance chat-service`), or give --tag, or --all"
        raise CommandFailedError("which agents?", advice, code=2)
    try:
        until = datetime.now(UTC) + timedelta(seconds=seconds(lasting))
    except (NotATimeError, OverflowError) as error:
        raise CommandFailedError(f"--for: {error}", code=2) from error
    params = ({} if end else {"until": until.isoformat()}) | ({"reason": reason} if reason else {})
    meant = agents or (Tagged(tuple(tag)) if tag else Everyone())
    telling.tell(data, meant, tenant, "set_maintenance", dict(params), timeout_s=timeout, as_json=as_json)


@app.command(epilog="Example: agentops agents logs chat-service --follow")
def logs(
    agent: AgentId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing what is added, until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many lines from the end.")] = 50,
    sidecar: Annotated[bool, typer.Option("--sidecar", help="The sidecar's log instead of the agent's output.")] = False,
    data: Data = None,
) -> None:
    """Print an agent's own output."""
    from agent_manager.cli.connection import data_directory
    from agent_manager.cli.fleet.logs import follow as following
    from agent_manager.cli.fleet.logs import last_lines, path_of

    path = path_of(data_directory(data), agent, sidecar=sidecar)
    last, position = last_lines(path, lines)
    for line in last:
        print(line, flush=True)
    if follow:
        for added in following(path, position):
            print(added, end="", flush=True)
