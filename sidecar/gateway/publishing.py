"""The gateway's intake: NATS itself. What it says is stored has a PubAck."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final

import structlog

from schemas.ids import derived_text
from schemas.reading import MAX_EVENT_BYTES
from sidecar.frames import Record
from sidecar.messages import Message, message
from sidecar.spool import Full, Stored
from streams.micro_batches import MAX_BATCH_BYTES, MAX_BATCH_LINES
from streams.publish import NotStoredError, RefusedError, acknowledged
from streams.waiting import Nats

log = structlog.get_logger(__name__)

_ACK_S: Final = 3.0
_PAUSE_S: Final = 0.1
_HEADERS_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Acknowledged(Stored):
    """NATS has them."""

    repeated: frozenset[str] = frozenset()
    """Ids of those it had already, by exactly these bytes, within its window of two minutes."""


def batches(tenant: str, agent: str, records: Sequence[Record]) -> Iterator[tuple[Message, Sequence[Record]]]:
    """``records`` in order, in as few messages as fit.

    A message's id follows from the tenant and every byte: an event id is unique only within its tenant, and one that comes again with
    another payload must reach validate, which says so.
    """
    begin, size = 0, 0
    for number, record in enumerate(records):
        if number > begin and (size + len(record.line) > MAX_BATCH_BYTES or number - begin >= MAX_BATCH_LINES):
            yield _named(tenant, agent, records[begin:number]), records[begin:number]
            begin, size = number, 0
        size += len(record.line) + 1
    if records:
        yield _named(tenant, agent, records[begin:]), records[begin:]


def _named(tenant: str, agent: str, records: Sequence[Record]) -> Message:
    made = message(tenant, agent, records)
    return replace(made, message_id=derived_text("gateway", made.subject, sha256(made.data).hexdigest()))


class PublishingIntake:
    """Publishes, and waits for each PubAck at most so long. Bounded by what its callers hold; ``Full`` while NATS is away or full."""

    def __init__(self, nats: Nats, within_s: float) -> None:
        self._nats = nats
        self._within_s = within_s

    @property
    def most_event_bytes(self) -> int:
        """What the server takes in one message, headers left out; while it is away, what a door takes."""
        client = self._nats.client
        return MAX_EVENT_BYTES if client is None else min(MAX_EVENT_BYTES, client.max_payload - _HEADERS_BYTES)

    async def take(self, tenant: str, agent: str, records: Sequence[Record]) -> Acknowledged | Full:
        """All are acknowledged, or not all: sending them again repeats nothing, validate knows every event by its id."""
        repeated: set[str] = set()
        try:
            async with asyncio.timeout(self._within_s):
                for out, several in batches(tenant, agent, records):
                    answer = await self._publish(out)
                    if isinstance(answer, Full):
                        return answer
                    if answer:
                        repeated |= {record.event_id for record in several}
        except TimeoutError:
            return Full(f"NATS did not acknowledge within {self._within_s:g} s")
        return Acknowledged(len(records), repeated=frozenset(repeated))

    async def _publish(self, out: Message) -> bool | Full:
        """Whether it was there already; tries again for as long as it is let."""
        while True:
            client = self._nats.client
            if client is None:
                return Full("NATS is away")
            try:
                ack = await acknowledged(
                    client, out.subject, out.data, message_id=out.message_id, headers=out.headers, timeout_s=_ACK_S
                )
            except RefusedError as error:
                log.warning("gateway.refused", error=str(error))
                return Full("NATS has no room")
            except NotStoredError as error:
                log.warning("gateway.again", message_id=out.message_id, error=str(error))
                await asyncio.sleep(_PAUSE_S)
            else:
                return bool(ack.duplicate)
