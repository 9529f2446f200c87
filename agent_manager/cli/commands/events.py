# ruff: noqa: PLC0415 - help and completion must not pay for NATS
from typing import Annotated

import typer

from agent_manager.cli.options import ByTenant, Data, Json

app = typer.Typer(no_args_is_help=True, help="Publish events from a file, watch them arrive.")


@app.command(epilog="Examples: agentops events publish runs.ndjson · my-exporter | agentops events publish -")
def publish(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="NDJSON: one event a line; - reads standard input.", show_default=False)],
    validate: Annotated[bool, typer.Option("--validate/--no-validate", help="Judge each line here first; without, send it as it is.")] = True,
    batch: Annotated[bool, typer.Option("--batch", help="Group an agent's events into micro-batches: faster for large files.")] = False,
    tenant: Annotated[str, typer.Option("--tenant", "-t", help="With --no-validate: for lines that name none.")] = "demo",
    agent: Annotated[str, typer.Option("--agent", help="With --no-validate: for lines that name none.")] = "unknown",
    data: Data = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Publish events and wait until each is stored. Wrong lines are named field by field; the others are sent."""
    from agent_manager.cli.events import publishing

    publishing.publish(data, file, validate=validate, batch=batch, tenant=tenant, agent=agent, as_json=as_json)


@app.command(epilog="Example: agentops events tail --kind model_call --json | jq .resource_usage")
def tail(
    tenant: ByTenant = None,
    kind: Annotated[str | None, typer.Option("--kind", "-k", help="Only this kind: run, step, model_call, tool_call, heartbeat …", show_default=False)] = None,
    agent: Annotated[str | None, typer.Option("--agent", "-a", help="Only this agent.", show_default=False)] = None,
    most: Annotated[int | None, typer.Option("--count", "-n", min=1, help="End after so many.", show_default=False)] = None,
    data: Data = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Watch accepted events as they arrive, until Ctrl-C."""
    from agent_manager.cli.events import tailing

    tailing.tail(data, tenant, kind, agent, most, as_json=as_json)
