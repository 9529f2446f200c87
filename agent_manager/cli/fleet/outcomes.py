"""What became of commands, in words. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from schemas.commands import CommandResponse

_DONE: Final = {
    "start": "started", "stop": "stopped", "restart": "restarted", "recover": "recovered",
    "inject_fault": "fault injected", "clear_faults": "faults cleared", "set_healing": "healing set", "status": "status",
}  # fmt: skip


def _plain(result: Mapping[str, Any]) -> str:
    shown = [f"{name}={value}" for name, value in result.items() if isinstance(value, str | int | float | bool) and value != ""]
    return ", ".join(shown)


def sentence(response: CommandResponse) -> str:
    """``chat-service: restarted (pid=812)``, or why not and what to do."""
    if response.status == "success":
        details = _plain(response.result or {})
        return f"{response.agent_id}: {_DONE.get(response.command, response.command)}{f' ({details})' if details else ''}"
    error = response.error
    why = f"{error.code}: {error.message}" if error is not None else "no reason given"
    advice = ""
    if error is not None and error.code == "timeout":
        advice = ". Is the agent manager running? See `agentops doctor`"
    return f"{response.agent_id}: {response.command} failed – {why}{advice}"
