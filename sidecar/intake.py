"""Where the doors put what they accepted: one agent's spool, or NATS itself where there is no disk between.

A door judges what it is sent and answers its caller; an intake keeps it. ``Stored`` is a promise: on disk, or acknowledged
by NATS. ``Full`` means that nothing was taken, so that the caller can send all of it again.
"""

from collections.abc import Sequence
from typing import Protocol

from sidecar.frames import Record
from sidecar.shipping import Shipper
from sidecar.spool import Full, Stored


class Intake(Protocol):
    """Takes accepted events of ``agent`` of ``tenant``: all of them, or none."""

    async def take(self, tenant: str, agent: str, records: Sequence[Record]) -> Stored | Full:
        """Returns once they are kept, or that there is no room; the latter says why."""
        ...


class SpoolIntake:
    """The intake of a sidecar: everything goes through its one spool, in order. Full when the spool is."""

    def __init__(self, shipper: Shipper) -> None:
        self._shipper = shipper

    async def take(self, tenant: str, agent: str, records: Sequence[Record]) -> Stored | Full:  # noqa: ARG002
        """The spool has one owner: ``tenant`` and ``agent`` were judged by the door, and stand in each event."""
        return self._shipper.submit(records)
