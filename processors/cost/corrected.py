"""Which entries of a tenant's day are corrected, as LEDGER has it: read once, and on from there when it is asked again."""

from dataclasses import dataclass, field
from typing import Final

import nats.js.errors
import orjson
from nats.aio.client import Client

from processors.cost.correcting import adjustment_id
from streams import subjects, topology
from streams.micro_batches import lines
from streams.reader import OrderedReader, Source

_REMEMBERED: Final = 500_000
"""Corrected entries remembered; more are read again."""


@dataclass(slots=True)
class Day:
    """The corrections of one tenant's day, up to ``last``, the newest message of their subject (0: none)."""

    last: int = 0
    by: dict[str, str] = field(default_factory=dict)
    """The correction each corrected entry is of."""
    adjustments: dict[str, int] = field(default_factory=dict)
    """The message of LEDGER each adjustment stands in."""

    def counts(self, tenant: str, entry_id: str, besides: str) -> tuple[str, int | None] | None:
        """What counts today of an entry, and where that stands (None: the entry itself does); None where it was taken back.

        The correction ``besides`` is left out of account: a torn batch may have left it.
        """
        place = None
        while self.by.get(entry_id, besides) != besides:
            entry_id = adjustment_id(tenant, entry_id)
            place = self.adjustments.get(entry_id)
            if place is None:
                return None
        return entry_id, place


class Corrected:
    """Bounded: past half a million entries all is forgotten, and read again as it is asked for."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._days: dict[tuple[str, str], Day] = {}

    async def of(self, tenant: str, day: str) -> Day:
        """The corrections of ``day`` (as subjects have it) now. Raises what NATS raises."""
        if sum(len(one.by) for one in self._days.values()) > _REMEMBERED:
            self._days.clear()
        subject = subjects.ledger_corrections(tenant, day)
        try:
            last = (await self._client.jetstream().get_last_msg(topology.LEDGER, subject, direct=True)).seq or 0
        except nats.js.errors.NotFoundError:
            last = 0
        found = self._days.setdefault((tenant, day), Day())
        if last > found.last:
            await self._read(subject, found, last)
        return found

    async def _read(self, subject: str, into: Day, last: int) -> None:
        reader = OrderedReader(self._client, Source(topology.LEDGER, (subject,)), into.last)
        try:
            while into.last < last:
                for message in await reader.fetch(1000, 5.0):
                    for line in lines(message.data):
                        entry = orjson.loads(line)
                        into.by[entry["corrects"]] = entry.get("correction_id", "")
                        if entry["kind"] == "adjustment":
                            into.adjustments[entry["entry_id"]] = message.sequence
                    into.last = message.sequence
        finally:
            await reader.close()
