"""The operator's login for other programs."""

import os
import shlex
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from agent_manager.cli import running
from agent_manager.cli.connection import OPERATOR, data_directory
from agent_manager.cli.failure import CommandFailedError


def variables(data: Path | None, user: str = OPERATOR) -> dict[str, str]:
    """``NATS_URL``, ``NATS_USER``, ``NATS_PASSWORD``, ``AGENTOPS_DATA`` of the running system; raises CommandFailedError.

    A system with an outside server knows the operator's login alone.
    """
    directory = data_directory(data)
    try:
        endpoints = running.read(directory)
    except (running.UnreadableError, PermissionError) as error:
        raise CommandFailedError(
            f"{directory / running.FILE} cannot be read ({error})", "Restart `agentops up`, or run as the user who started it"
        ) from error
    if endpoints is None or not running.alive(endpoints.pid):
        raise CommandFailedError(
            f"no system is running on {directory}", "Start one with `agentops up`, or name its data directory with --data"
        )
    found = {"NATS_URL": endpoints.nats_url}
    known = endpoints.users.get(user) or endpoints.users.get(OPERATOR)
    if known is not None:
        found |= {"NATS_USER": known.user, "NATS_PASSWORD": known.password}
    return found | {"AGENTOPS_DATA": endpoints.data}


def login(arguments: Sequence[str], user: str = OPERATOR) -> dict[str, str]:
    """What a sidecar or gateway started by hand needs to reach the running system; nothing where NATS_URL says it or none runs."""
    if os.environ.get("NATS_URL"):
        return {}
    named = next((Path(value) for option, value in pairwise(arguments) if option == "--data"), None)
    try:
        found = variables(named, user)
    except CommandFailedError:
        return {}
    return {name: value for name, value in found.items() if name.startswith("NATS_")}


def lines(found: Mapping[str, str]) -> list[str]:
    """For ``eval`` in a shell."""
    return [f"export {name}={shlex.quote(value)}" for name, value in found.items()]
