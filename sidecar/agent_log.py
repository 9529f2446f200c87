"""The agent's output on disk: bounded, the newest kept."""

import os
from pathlib import Path

import structlog

from sidecar.rotation import make_room

log = structlog.get_logger(__name__)


class AgentLog:
    """``path``, and older parts as ``path.1`` …; at most ``parts`` files of ``part_bytes``, the oldest dropped."""

    def __init__(self, path: Path, *, part_bytes: int = 5_000_000, parts: int = 3) -> None:
        self._path = path
        self._part_bytes = part_bytes
        self._parts = parts
        self._file = -1
        self._size = 0
        self._open()

    def _open(self) -> None:
        # First the new one: where it cannot be had, the old one goes on, and its number is nobody else's.
        before, self._file = self._file, os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        if before >= 0:
            os.close(before)
        self._size = os.fstat(self._file).st_size

    def write(self, data: bytes) -> None:
        """Appends ``data``. Output that the disk refuses is lost: an agent must not stop for its log."""
        try:
            if self._size and self._size + len(data) > self._part_bytes:
                self._rotate()
        except OSError as error:
            log.warning("agent_log.not_rotated", error=repr(error))
        try:
            self._size += os.write(self._file, data)
        except OSError:
            return

    def _rotate(self) -> None:
        make_room(self._path, self._parts)
        self._open()

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)
