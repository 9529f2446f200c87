"""Where the doors put what they accepted: one agent's spool, or NATS itself where there is no disk between.

A door judges what it is sent and answers its caller; an intake keeps it. ``Stored`` is a promise: on disk, or acknowledged
by NATS. ``Full`` means that nothing was taken, so that the caller can send all of it again.
"""

import time
from collections.abc import Sequence
from typing import Protocol

from sidecar.frames import Record
from sidecar.progress import Progress
from sidecar.shipping import Shipper
from sidecar.spool import Full, Stored


class Intake(Protocol):
    """Takes accepted events of ``agent`` of ``tenant``: all of them, or none."""

    async def take(self, tenant: str, agent: str, records: Sequence[Record]) -> Stored | Full:
        """Returns once they are kept, or that there is no room; the latter says why."""
        ...


class SpoolIntake:
    """The intake of a sidecar: everything goes through its one spool, in order. Full when the spool is.

    ``progress`` hears what was stored; None where it is no work of the agent's own telling.
    """

    def __init__(self, shipper: Shipper, progress: Progress | None = None) -> None:
        self._shipper = shipper
        self._progress = progress

    async def take(self, tenant: str, agent: str, records: Sequence[Record]) -> Stored | Full:  # noqa: ARG002
        """The spool has one owner: ``tenant`` and ``agent`` were judged by the door, and stand in each event."""
        outcome = self._shipper.submit(records)
        if self._progress is not None and isinstance(outcome, Stored):
            self._progress.note(records, time.monotonic())
        return outcome
