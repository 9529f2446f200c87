"""An agent's own output, from the files the manager and the sidecar write beside the data."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agent_manager.cli.failure import CommandFailedError

_BLOCK: Final = 64 * 1024
_LOOK_AGAIN_S: Final = 0.2


def path_of(data: Path, agent_id: str, *, sidecar: bool) -> Path:
    """The log file; raises CommandFailedError when there is none."""
    path = data / "agents" / agent_id / ("sidecar.log" if sidecar else "agent.log")
    if not path.is_file():
        known = sorted(child.name for child in (data / "agents").glob("*") if child.is_dir())
        advice = f"Logs are kept for: {', '.join(known)}" if known else "Name the data directory of the system with --data"
        raise CommandFailedError(f"{path} does not exist", advice)
    return path


def last_lines(path: Path, wanted: int) -> tuple[list[str], int]:
    """The last ``wanted`` lines and the position after them; reads no more of a large file than it needs."""
    with path.open("rb") as file:
        end = position = file.seek(0, 2)
        held = b""
        while position > 0 and held.count(b"\n") <= wanted:
            step = min(_BLOCK, position)
            position -= step
            file.seek(position)
            held = file.read(step) + held
    lines = held.decode(errors="replace").splitlines()
    return (lines[-wanted:] if wanted else []), end


def follow(path: Path, position: int) -> Iterator[str]:
    """What is added after ``position``, for ever; a file that was cut or replaced is read from its beginning."""
    identity = path.stat().st_ino
    while True:
        try:
            stat = path.stat()
        except FileNotFoundError:
            time.sleep(_LOOK_AGAIN_S)
            continue
        if stat.st_ino != identity or stat.st_size < position:
            identity, position = stat.st_ino, 0
        if stat.st_size > position:
            with path.open("rb") as file:
                file.seek(position)
                added = file.read(_BLOCK)
            position += len(added)
            yield added.decode(errors="replace")
        else:
            time.sleep(_LOOK_AGAIN_S)
