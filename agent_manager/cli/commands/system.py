# ruff: noqa: PLC0415 - help and completion must not pay for NATS
"""``env``, ``audit``, ``doctor``, ``version``, and what is passed on to other programs."""

import os
import sys
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


def audit(data: Data = None, as_json: Json = False) -> None:
    """Check that nothing was lost and nothing counted twice: streams and warehouse against their own accounts."""
    from agent_manager.cli import auditing

    auditing.audit(data, as_json=as_json)


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


def _become(module: str, arguments: list[str]) -> None:
    """Replaces this process: signals and exit code are the other program's own."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])  # noqa: S606 - no shell is wanted


def sidecar(context: typer.Context) -> None:
    """Run a sidecar beside one agent; the arguments are those of python -m sidecar."""
    _become("sidecar", context.args)


def processors(context: typer.Context) -> None:
    """Run stream processors; the arguments are those of python -m processors."""
    _become("processors", context.args)


AsVersion = Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)]
