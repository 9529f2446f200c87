# ruff: noqa: PLC0415 - help and completion must not pay for NATS
"""``env``, ``audit``, ``doctor``, ``version``, and what is passed on to other programs."""

import os
import sys
from collections.abc import Mapping
from typing import Annotated

import typer

from agent_manager.cli.options import Data, Json


def env(data: Data = None, as_json: Json = False) -> None:
    """Print the login of the running system as export lines: eval "$(agentops env)"."""
    from agent_manager.cli import output
    from agent_manager.cli.exports import lines, variables

    found = variables(data)
    if as_json:
        output.write_json(found)
    else:
        for line in lines(found):
            output.write_line(line)


Begin = Annotated[
    str | None,
    typer.Option("--from", help="Where to begin: a time (24h ago, 2026-11-20T08:00:00Z), or a sequence of one --stream."),
]
End = Annotated[str | None, typer.Option("--until", help="Where to end, likewise; a sequence is included, a moment is not.")]
Last = Annotated[str | None, typer.Option("--last", help="The last so much: 1h, 30m, 2d.")]
OfTenant = Annotated[str | None, typer.Option("--tenant", "-t", help="Only this tenant's messages, rows and money.")]
OfStreams = Annotated[list[str] | None, typer.Option("--stream", help="EVENTS, LEDGER or ALERTS; may be repeated.")]
OfStages = Annotated[
    list[str] | None, typer.Option("--stage", help="validate, cost, aggregate or billing; may be repeated. Default: all.")
]
EveryMessage = Annotated[
    bool,
    typer.Option("--every-message", help="Read the header of every message too, instead of trusting coverage records: slower."),
]


def audit(
    begin: Begin = None,
    end: End = None,
    last: Last = None,
    tenant: OfTenant = None,
    stream: OfStreams = None,
    stage: OfStages = None,
    every_message: EveryMessage = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Check that nothing was lost and nothing counted twice: streams and warehouse against their own accounts."""
    from agent_manager.cli import auditing

    asked = auditing.Asked(begin, end, last, tenant, stream or (), stage or (), every_message)
    auditing.audit(data, asked, as_json=as_json)


def doctor(data: Data = None, as_json: Json = False) -> None:
    """Look at every part, say what is wrong and what to do; exit code 1 when something is."""
    from agent_manager.cli.doctor import showing

    showing.doctor(data, as_json=as_json)


def version(as_json: Json = False) -> None:
    """Print the versions of AgentOps, of its NATS server and of Python."""
    from agent_manager.cli import output
    from agent_manager.cli.versions import versions

    found = versions()
    if as_json:
        output.write_json(found)
    else:
        output.write_line(
            f"agentops {found['agentops']} (nats-server {found['nats_server'] or 'not found'}, Python {found['python']})"
        )


def become(module: str, arguments: list[str], login: Mapping[str, str] | None = None) -> None:
    """Replaces this process: signals and exit code are the other program's own."""
    sys.stdout.flush()
    environment = {**os.environ, **(login or {})}
    os.execve(sys.executable, [sys.executable, "-m", module, *arguments], environment)  # noqa: S606 - no shell is wanted


def sidecar(context: typer.Context) -> None:
    """Run a sidecar beside one agent; the arguments are those of python -m sidecar."""
    from agent_manager.cli.exports import login

    arguments = as_typed(context)
    become("sidecar", arguments, login(arguments))


def gateway(context: typer.Context) -> None:
    """Run a gateway for agents without sidecars; the arguments are those of python -m sidecar.gateway."""
    from agent_manager.cli.exports import login

    arguments = as_typed(context)
    become("sidecar.gateway", arguments, login(arguments, "gateway"))


def api(context: typer.Context) -> None:
    """Run the REST API; the arguments are those of python -m agent_manager.api."""
    from agent_manager.cli.exports import login

    arguments = as_typed(context)
    become("agent_manager.api", arguments, login(arguments, "api"))


def mirror(context: typer.Context) -> None:
    """Run the mirror of agents in Firestore; the arguments are those of python -m agent_manager.mirror."""
    from agent_manager.cli.exports import login

    arguments = as_typed(context)
    become("agent_manager.mirror", arguments, login(arguments, "mirror"))


def processors(context: typer.Context) -> None:
    """Run stream processors; the arguments are those of python -m processors."""
    become("processors", as_typed(context))


def as_typed(context: typer.Context) -> list[str]:
    """What follows the command, a ``--`` included, which the parser of this program keeps to itself."""
    typed = sys.argv[1:]
    name = context.info_name or ""
    return typed[typed.index(name) + 1 :] if name in typed else list(context.args)


AsVersion = Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)]
