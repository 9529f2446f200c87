"""Snapshots of the warehouse: how one is asked for, and what is told while it is written."""

from typing import Annotated, Literal

from pydantic import StringConstraints

from schemas.model import Count, Instant, Lenient, Text, Wire

SnapshotName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$")]
"""Names a file of the snapshot directory, without its ending: never a path."""


class SnapshotRequest(Wire):
    """Asks the aggregate for a snapshot of its warehouse."""

    name: SnapshotName


class SnapshotInfo(Lenient):
    """A finished snapshot: all of the warehouse as of one transaction."""

    name: SnapshotName
    path: Text
    """On the machine of the aggregate."""
    at: Instant
    bytes: Count
    rows: Count
    offsets: dict[str, int]
    """How far each stream is applied in it."""


class SnapshotProgress(Lenient):
    """One of several answers to a request; the last is ``done`` or ``failed``."""

    state: Literal["copying", "done", "failed"]
    table: str | None = None
    tables_done: Count = 0
    tables: Count = 0
    rows: Count = 0
    """Copied so far."""
    snapshot: SnapshotInfo | None = None
    """With ``done``."""
    message: Text | None = None
    """With ``failed``: why, and what to do."""
