"""What an ``agentops up`` that was itself killed, or an agent that would not stop, may have left running."""

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any, Final

from agent_manager.cli.running import alive
from agent_manager.cli.up.processes import command_line, kill_group, members

_ITSELF_S: Final = 2.0
"""A NATS server whose ``up`` was killed is ending already; it gets this long before it is told again."""
_ASKED_S: Final = 3.0


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


def _run_file(path: Path) -> dict[str, Any]:
    try:
        said = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def agent_groups(data: Path) -> dict[str, int]:
    """Process groups of agents that still run, by agent id: led by a sidecar, or holding the agent it started."""
    found = {}
    for path in (data / "agents").glob("*/sidecar.json"):
        said = _run_file(path)
        leader, agent = said.get("pid"), said.get("agent_pid")
        if not isinstance(leader, int) or leader <= 1:
            continue
        running = members(leader)
        # Ids are used again: the leader must be a sidecar, or the group must hold the very agent it wrote down.
        if ("sidecar" in command_line(leader) and leader in running) or agent in running:
            found[path.parent.name] = leader
    return found


def kill_agents(data: Path) -> list[str]:
    """Kills the groups of agents that still run; returns their ids."""
    groups = agent_groups(data)
    for leader in groups.values():
        kill_group(leader)
    return sorted(groups)
