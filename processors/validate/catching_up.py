"""Bringing the duplicate index up to EVENTS."""

import asyncio
from collections.abc import Callable
from typing import Final

import nats.js.errors
import orjson
import structlog
from nats.aio.client import Client

from processors.duplicates import catching_up
from processors.duplicates.index import DuplicateIndex
from processors.validate.judging import payload_hash, without_ingest
from schemas.ids import event_key
from streams import subjects, topology
from streams.messages import Received
from streams.micro_batches import lines
from streams.reader import Source

log = structlog.get_logger(__name__)

_ID_MARK: Final = b'{"event_version":"v1","event_id":"'
_ID_FROM: Final = len(_ID_MARK)
_ID_TO: Final = _ID_FROM + 36
_DAY_NS: Final = 86_400_000_000_000
_PIECE: Final = 2000
"""Events applied between two looks at what else there is to do."""


def rows_of(message: Received) -> list[tuple[bytes, bytes]]:
    """Key and payload hash of every event in one ``events.<tenant>.<kind>`` message."""
    tenant = message.subject.split(".", 2)[1]
    return [
        (
            # The normal form begins with its version and its id.
            event_key(tenant, line[_ID_FROM:_ID_TO].decode() if line.startswith(_ID_MARK) else orjson.loads(line)["event_id"]),
            payload_hash(without_ingest(line)),
        )
        for line in lines(message.data)
    ]


async def newest_event(client: Client) -> int:
    """Sequence of the last message on ``events.>``; 0 when there is none."""
    try:
        message = await client.jetstream().get_last_msg(topology.EVENTS, subjects.ALL_EVENTS)
    except nats.js.errors.NotFoundError:
        return 0
    return message.seq or 0


async def catch_up(client: Client, index: DuplicateIndex, tell: Callable[[str], None]) -> int:
    """Applies every event now in EVENTS to ``index``; returns how many messages that took.

    Raises nats errors when the server is away, and the index's own: call again. ``tell`` hears how far it is.
    """
    source = Source(topology.EVENTS, (subjects.ALL_EVENTS,))
    return await catching_up.catch_up(client, source, _Accepted(index), lambda: newest_event(client), tell)


class _Accepted:
    """The index, as far as it follows from EVENTS."""

    def __init__(self, index: DuplicateIndex) -> None:
        self._index = index

    @property
    def applied(self) -> int:
        """Every event up to this EVENTS sequence is known."""
        return self._index.applied

    async def apply(self, messages: list[Received]) -> int:
        """Takes in ``messages``; returns how many events that were."""
        rows: list[tuple[bytes, bytes]] = []
        day = messages[0].stored_ns // _DAY_NS
        before = self._index.applied
        events = 0
        for message in messages:
            if len(rows) >= _PIECE or message.stored_ns // _DAY_NS != day:
                self._index.add(rows, before, day)
                events += len(rows)
                rows, day = [], message.stored_ns // _DAY_NS
                # What was fetched is here already: nothing else would let the connection have its turn.
                await asyncio.sleep(0)
            try:
                rows += rows_of(message)
            except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
                log.warning("index.unreadable_event", sequence=message.sequence, error=repr(error))
            before = message.sequence
        self._index.add(rows, before, day)
        return events + len(rows)
