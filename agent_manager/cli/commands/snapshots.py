# ruff: noqa: PLC0415 - help and completion must not pay for NATS
"""``snapshot …`` and ``replay``: copies of the warehouse, and a warehouse built anew."""

from pathlib import Path
from typing import Annotated

import typer

from agent_manager.cli.options import Data, Json

app = typer.Typer(no_args_is_help=True, help="Copy the warehouse as of one moment, while it goes on.")

File = Annotated[
    Path | None,
    typer.Argument(
        help="Where to: a file, a directory, or a mere name. Default: named by the time, in the data directory.",
        show_default=False,
    ),
]
Into = Annotated[Path, typer.Option("--into", help="The file to write; it must not exist yet.", show_default=False)]
Begin = Annotated[str | None, typer.Option("--from", help="Only what the streams stored since: 24h (ago), 2026-11-20T08:00:00Z.")]
End = Annotated[str | None, typer.Option("--until", help="Only what the streams stored before.")]
Snapshot = Annotated[
    str | None, typer.Option("--snapshot", help="Start from this snapshot: a file, or a name of `snapshot list`.")
]
WithoutHead = Annotated[bool, typer.Option("--without-head", help="Go without what no longer stands at the head of a stream.")]
StartOver = Annotated[
    bool, typer.Option("--start-over", help="Remove an unfinished replay into this file instead of going on with it.")
]


@app.command(epilog="Example: agentops snapshot export /backup/warehouse.duckdb")
def export(file: File = None, data: Data = None, as_json: Json = False) -> None:
    """Write everything the warehouse holds into a file of its own, as of one transaction."""
    from agent_manager.cli.snapshots import exporting

    exporting.export(data, file, as_json=as_json)


@app.command("list", epilog="Example: agentops snapshot list --json")
def list_(data: Data = None, as_json: Json = False) -> None:
    """Show the snapshots of the data directory."""
    from agent_manager.cli.connection import data_directory
    from agent_manager.cli.snapshots import exporting

    exporting.list_(data_directory(data), as_json=as_json)


def replay(
    into: Into,
    begin: Begin = None,
    end: End = None,
    snapshot: Snapshot = None,
    without_head: WithoutHead = False,
    start_over: StartOver = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Build a warehouse from the streams into a new file; the running one is left alone."""
    from agent_manager.cli import replaying

    replaying.replay(data, replaying.Asked(into, begin, end, snapshot, without_head, start_over), as_json=as_json)
