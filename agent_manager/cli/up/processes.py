"""Process groups: what belongs to one, and its end."""

import contextlib
import os
import signal
from pathlib import Path

_PROC = Path("/proc")


def kill_group(leader: int) -> None:
    """SIGKILL to whatever is left of the group ``leader`` began."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def command_line(pid: int) -> list[str]:
    """Arguments of a process; empty when it is gone or not ours to see."""
    try:
        return (_PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
    except OSError:
        return []


def members(leader: int) -> list[int]:
    """Living processes of the group ``leader`` began, itself among them; zombies do not count."""
    found = []
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # The name in brackets may hold anything; fields are counted from behind it.
            fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == leader and fields[0] not in {"Z", "X"}:
            found.append(int(entry.name))
    return found
