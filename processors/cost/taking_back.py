"""Reversals of entries for whose calls another one stands: of what counts today, and on condition that it still does when they are stored."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import nats.js.errors
import orjson
from nats.aio.client import Client

from processors.cost.corrected import Corrected, Day
from processors.cost.correcting import day_of, recognition_id, taken_back
from processors.cost.corrections import corrections_of
from processors.cost.recognising import Taken
from processors.cost.sightings import id_text
from schemas.ledger import LedgerEntry
from streams import topology
from streams.micro_batches import lines
from streams.outgoing import Outgoing

BY: Final = "cost"
"""Who corrects, where no person has asked for it."""
_MOST_DAYS: Final = 400
"""Days of calls one batch corrects: each is a message of it. What is beyond stays as it is."""
_READING: Final = 32


@dataclass(slots=True)
class TakenBack:
    """Reversals by tenant and day, each day with the newest message that corrects any of it, and what cannot be taken back."""

    reversals: dict[tuple[str, str], tuple[int, list[LedgerEntry]]] = field(default_factory=dict)
    settled: set[bytes] = field(default_factory=set)
    """Entries that a person has taken back, or that LEDGER has no longer: what stands stays."""

    @property
    def count(self) -> int:
        """How many reversals."""
        return sum(len(entries) for _, entries in self.reversals.values())

    def outputs(self) -> list[Outgoing]:
        """What stores them."""
        return [
            out
            for (tenant, day), (last, entries) in self.reversals.items()
            for out in corrections_of(tenant, day, ((entry,) for entry in entries), last)
        ]


class TakingBack:
    """Reads what is to be taken back where it stands."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._corrected = Corrected(client)

    async def of(self, taken: Sequence[tuple[str, Taken]], made: Mapping[bytes, bytes], now: datetime) -> TakenBack:
        """The reversals ``taken`` (with their tenants) lead to; ``made`` are the lines of this batch. Raises what NATS raises."""
        found = TakenBack()
        messages = await self._messages({one.place for _, one in taken if one.place})
        days: dict[tuple[str, str], Day] = {}
        for tenant, one in taken:
            held = [made[one.entry]] if one.entry in made else messages.get(one.place, [])
            original = _entry(held, id_text(one.entry))
            if original is None:
                found.settled.add(one.entry)
                continue
            key = tenant, day_of(original)
            if key not in days:
                if len(days) >= _MOST_DAYS:
                    found.settled.add(one.entry)
                    continue
                days[key] = await self._corrected.of(*key)
            stands = id_text(one.stands)
            counts = days[key].counts(tenant, original.entry_id, recognition_id(tenant, original.entry_id, stands))
            if counts is not None and counts[1] is not None:
                adjusted = _entry((await self._messages({counts[1]})).get(counts[1], []), counts[0])
            else:
                adjusted = None if counts is None else original
            if adjusted is None:
                found.settled.add(one.entry)
                continue
            entries = found.reversals.setdefault(key, (days[key].last, []))[1]
            entries.append(taken_back(adjusted, original.entry_id, stands, BY, now))
        return found

    async def _messages(self, places: set[int]) -> dict[int, list[bytes]]:
        """The lines of messages of LEDGER."""
        limit = asyncio.Semaphore(_READING)

        async def read(place: int) -> tuple[int, list[bytes]]:
            async with limit:
                jetstream = self._client.jetstream()
                try:
                    message = await jetstream.get_msg(topology.LEDGER, place, direct=True)
                except nats.js.errors.NotFoundError:
                    # A replica may lag behind: only the leader knows that it is not there.
                    try:
                        message = await jetstream.get_msg(topology.LEDGER, place)
                    except nats.js.errors.NotFoundError:
                        return place, []
            return place, lines(message.data or b"")

        return dict(await asyncio.gather(*map(read, places)))


def _entry(held: Sequence[bytes], entry_id: str) -> LedgerEntry | None:
    mark = entry_id.encode()
    for line in held:
        if mark in line and orjson.loads(line)["entry_id"] == entry_id:
            return LedgerEntry.model_validate_json(line)
    return None
