"""What the manager leaves beside the agent's files before it asks a sidecar to stop: that another instance follows, and why."""

import json
import os
from pathlib import Path
from typing import Final

FILE: Final = "restarting.json"
_LONGEST: Final = 2000


def restarting(directory: Path) -> str | None:
    """Why this very process is asked to stop, if it is to be started again; taken away with being read."""
    path = directory / FILE
    try:
        told = json.loads(path.read_bytes())
        path.unlink(missing_ok=True)
    except (OSError, ValueError):
        return None
    if not isinstance(told, dict) or told.get("pid") != os.getpid():
        return None
    reason = told.get("reason")
    return reason[:_LONGEST] if isinstance(reason, str) and reason else None
