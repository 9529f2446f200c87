"""What an ``agentops up`` that was itself killed, or an agent that would not stop, may have left running."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Final

from agent_manager.cli.running import alive
from agent_manager.cli.up.processes import command_line
from agent_manager.drivers import groups

_ITSELF_S: Final = 2.0
"""A NATS server whose ``up`` was killed is ending already; it gets this long before it is told again."""
_ASKED_S: Final = 3.0
_KILLED_S: Final = 0.5
"""A group that was killed is gone in milliseconds; what hangs in the kernel for longer is not waited for."""


def nats_server(directory: Path) -> int | None:
    """Process id of a server that still runs on ``directory``: two on the same files would destroy them."""
    try:
        pid = int((directory / "nats-server.pid").read_text())
    except (OSError, ValueError):
        return None
    line = command_line(pid)
    return pid if any(part.endswith("nats-server") for part in line[:1]) and str(directory / "nats.conf") in line else None


async def _gone(pid: int, within_s: float) -> bool:
    deadline = asyncio.get_running_loop().time() + within_s
    while alive(pid) and command_line(pid):
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(0.05)
    return True


async def end_nats_server(directory: Path) -> bool:
    """Ends such a server; returns whether there was one."""
    pid = nats_server(directory)
    if pid is None:
        return False
    if not await _gone(pid, _ITSELF_S):
        os.kill(pid, signal.SIGTERM)
        if not await _gone(pid, _ASKED_S):
            os.kill(pid, signal.SIGKILL)
            await _gone(pid, _ASKED_S)
    return True


def kill_agents(home: str) -> list[str]:
    """Kills what still runs of the agents of ``home`` (``groups.home``); returns their ids.

    Only the marks of the processes count. The run files of agents are copied with a data directory, and then name
    processes of the original.
    """
    found = groups.at_home(home)
    for group, leader in found.items():
        groups.clear(group, also_led_by=leader, within_s=_KILLED_S)
    return sorted({groups.agent_of(group) for group in found})
