"""The operator's login for other programs."""

import shlex
from collections.abc import Mapping
from pathlib import Path

from agent_manager.cli import running
from agent_manager.cli.connection import OPERATOR, data_directory
from agent_manager.cli.failure import CommandFailedError


def variables(data: Path | None) -> dict[str, str]:
    """``NATS_URL``, ``NATS_USER``, ``NATS_PASSWORD``, ``AGENTOPS_DATA`` of the running system; raises CommandFailedError."""
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
    login = endpoints.users.get(OPERATOR)
    if login is not None:
        found |= {"NATS_USER": login.user, "NATS_PASSWORD": login.password}
    return found | {"AGENTOPS_DATA": endpoints.data}


def lines(found: Mapping[str, str]) -> list[str]:
    """For ``eval`` in a shell."""
    return [f"export {name}={shlex.quote(value)}" for name, value in found.items()]
