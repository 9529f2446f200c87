# ruff: noqa: PLC0415 - help and completion must not pay for NATS
from typing import Annotated

import typer

from agent_manager.cli.options import Data, Json

app = typer.Typer(no_args_is_help=True, help="Compare the NATS server with the topology, and make it agree.")

Partitions = Annotated[
    int | None,
    typer.Option(
        "--partitions", min=1, max=256, envvar="AGENTOPS_PARTITIONS",
        help="Parts of TELEMETRY that instances of validate share out; may only grow. Default: as many as there are.",
    ),
]  # fmt: skip
Replicas = Annotated[int, typer.Option("--replicas", min=1, max=5, help="Copies of each stream; 3 in a cluster.")]


@app.command(epilog="Example: NATS_URL=nats://nats.internal:4222 agentops streams apply --replicas 3")
def apply(replicas: Replicas = 1, partitions: Partitions = None, data: Data = None, as_json: Json = False) -> None:
    """Create and update streams and buckets; twice is as good as once."""
    from agent_manager.cli.streams import showing

    showing.apply(data, replicas, partitions, as_json=as_json)


@app.command(epilog="Example: agentops streams check || agentops streams apply")
def check(replicas: Replicas = 1, partitions: Partitions = None, data: Data = None, as_json: Json = False) -> None:
    """Name every difference; exit code 1 when there is one."""
    from agent_manager.cli.streams import showing

    showing.check(data, replicas, partitions, as_json=as_json)


@app.command("list", epilog="Example: agentops streams list --json")
def list_(data: Data = None, as_json: Json = False) -> None:
    """Show streams and buckets: messages, size, position, consumers."""
    from agent_manager.cli.streams import showing

    showing.list_(data, as_json=as_json)
