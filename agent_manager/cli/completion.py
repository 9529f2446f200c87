"""What the shell offers for ids: read from files only, because a completion must never wait."""

import os
from pathlib import Path


def agents(incomplete: str) -> list[str]:
    """Ids of agents with a folder in the data directory."""
    folder = Path(os.environ.get("AGENTOPS_DATA") or "data") / "agents"
    try:
        return sorted(child.name for child in folder.iterdir() if child.is_dir() and child.name.startswith(incomplete))
    except OSError:
        return []
