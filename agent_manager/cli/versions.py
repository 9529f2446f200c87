"""What is installed."""

import importlib.metadata
import platform
import subprocess

from streams.embedded import ServerError, binary


def _nats_server() -> str | None:
    try:
        said = subprocess.run([binary(), "--version"], capture_output=True, text=True, timeout=5, check=False).stdout
    except (ServerError, OSError, subprocess.TimeoutExpired):
        return None
    return said.rpartition("v")[2].strip() or None


def agentops() -> str:
    """The version of this project; ``unknown`` in a tree that was never installed."""
    try:
        return importlib.metadata.version("agentops")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def versions() -> dict[str, str | None]:
    """Versions by name."""
    return {"agentops": agentops(), "nats_server": _nats_server(), "python": platform.python_version()}
