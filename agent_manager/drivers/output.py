"""Where an agent's output goes: one file, turned over at a start when it has grown. What its sidecar is told lies beside it."""

import json
from pathlib import Path
from typing import Final

import structlog

log = structlog.get_logger(__name__)

TURN_OVER_BYTES: Final = 5 * 1024 * 1024


def directory(data: Path, agent: str) -> Path:
    """Where everything about one agent lies."""
    return data / "agents" / agent


def prepare(data: Path, agent: str) -> Path:
    """The log file, its directory made, the previous one moved to ``sidecar.log.1`` when it was too big."""
    path = directory(data, agent) / "sidecar.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > TURN_OVER_BYTES:
        path.replace(path.with_suffix(".log.1"))
    return path


def tail(data: Path, agent: str, lines: int = 5) -> str:
    """The last lines of it, for a reason that helps."""
    path = directory(data, agent) / "sidecar.log"
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 4096))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])[-2000:]


def leave(data: Path, agent: str, leader: int, restarting: str) -> None:
    """Beside the agent's files stands why the sidecar ``leader`` is about to be asked to stop, if another follows it.

    A disk that refuses costs the reason alone: the sidecar then says that it was stopped by command.
    """
    path = directory(data, agent) / "restarting.json"
    try:
        if restarting:
            path.write_text(json.dumps({"pid": leader, "reason": restarting}))
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("restarting.not_told", agent_id=agent, error=repr(error))


def agent_pid(data: Path, agent: str, leader: int) -> int | None:
    """The agent's own process id as the sidecar ``leader`` wrote it down, if it has."""
    try:
        told = json.loads((directory(data, agent) / "sidecar.json").read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(told, dict) or told.get("pid") != leader:
        return None
    found = told.get("agent_pid")
    return found if isinstance(found, int) else None
