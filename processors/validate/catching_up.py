"""Bringing the duplicate index up to EVENTS: after a kill a few messages, after its loss all of them."""

from collections.abc import Callable, Iterator
from typing import Final
from uuid import UUID

import nats.errors
import nats.js.errors
import orjson
import structlog
from nats.aio.client import Client

from processors.validate.index import DuplicateIndex
from processors.validate.judging import payload_hash, without_ingest
from schemas.ids import event_key
from streams import subjects, topology
from streams.messages import Received
from streams.micro_batches import lines
from streams.reader import OrderedReader, Source

log = structlog.get_logger(__name__)

_ID_MARK: Final = b'{"event_version":"v1","event_id":"'
_ID_FROM: Final = len(_ID_MARK)
_ID_TO: Final = _ID_FROM + 36
_DAY_NS: Final = 86_400_000_000_000


def rows_of(message: Received) -> Iterator[tuple[bytes, bytes]]:
    """Key and payload hash of every event in one ``events.<tenant>.<kind>`` message."""
    tenant = message.subject.split(".")[1]
    for line in lines(message.data):
        text = line[_ID_FROM:_ID_TO].decode() if line.startswith(_ID_MARK) else str(orjson.loads(line)["event_id"])
        yield event_key(tenant, UUID(text)), payload_hash(without_ingest(line))


async def newest_event(client: Client) -> int:
    """Sequence of the last message on ``events.>``; 0 when there is none."""
    try:
        message = await client.jetstream().get_last_msg(topology.EVENTS, subjects.ALL_EVENTS)
    except nats.js.errors.NotFoundError:
        return 0
    return message.seq or 0


async def catch_up(client: Client, index: DuplicateIndex, tell: Callable[[str], None]) -> int:
    """Applies every event now in EVENTS to ``index``; returns how many messages that took.

    Raises nats errors when the server is away: call again. ``tell`` hears how far it is.
    """
    target = await newest_event(client)
    if index.applied >= target:
        return 0
    reader = OrderedReader(client, Source(topology.EVENTS, (subjects.ALL_EVENTS,)), index.applied)
    read = 0
    try:
        while index.applied < target:
            tell(f"catching up with EVENTS: at {index.applied:,} of {target:,}")
            messages = await reader.fetch(200, 5.0)
            if not messages:
                if not client.is_connected:
                    raise nats.errors.ConnectionReconnectingError
                # What was the last may have aged out meanwhile.
                target = min(target, await newest_event(client))
                continue
            rows: list[tuple[bytes, bytes]] = []
            for message in messages:
                try:
                    rows += rows_of(message)
                except (ValueError, KeyError, TypeError, IndexError) as error:
                    log.warning("index.unreadable_event", sequence=message.sequence, error=repr(error))
            index.add(rows, messages[-1].sequence, messages[-1].stored_ns // _DAY_NS)
            read += len(messages)
    finally:
        await reader.close()
    log.info("index.caught_up", messages=read, applied=index.applied)
    return read
