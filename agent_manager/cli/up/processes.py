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
