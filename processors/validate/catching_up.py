"""Bringing the duplicate index up to EVENTS: after a kill a few messages, after its loss all of them."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import nats.errors
import nats.js.errors
import orjson
import structlog
from nats.aio.client import Client

from processors.validate.identity import payload_hash, without_ingest
from processors.validate.index import DuplicateIndex
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
_FETCHED: Final = 2000
_PIECE: Final = 2000
"""Events applied between two looks at what else there is to do."""
_TOLD_EVERY_S: Final = 10.0


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
    target = await newest_event(client)
    if index.applied >= target:
        return 0
    progress = _Progress(index.applied, target, tell)
    reader = OrderedReader(client, Source(topology.EVENTS, (subjects.ALL_EVENTS,)), index.applied)
    try:
        while index.applied < target:
            progress.tell(index.applied, target)
            messages = await reader.fetch(_FETCHED, 5.0)
            if not messages:
                if not client.is_connected:
                    raise nats.errors.ConnectionReconnectingError
                # What was the last may have aged out meanwhile.
                target = min(target, await newest_event(client))
                continue
            await _apply(messages, index, progress)
    finally:
        await reader.close()
    log.info("index.caught_up", applied=index.applied, **progress.figures())
    return progress.messages


async def _apply(messages: list[Received], index: DuplicateIndex, progress: "_Progress") -> None:
    rows: list[tuple[bytes, bytes]] = []
    day = messages[0].stored_ns // _DAY_NS
    before = index.applied
    for message in messages:
        if len(rows) >= _PIECE or message.stored_ns // _DAY_NS != day:
            index.add(rows, before, day)
            progress.events += len(rows)
            rows, day = [], message.stored_ns // _DAY_NS
            # What was fetched is here already: nothing else would let the connection have its turn.
            await asyncio.sleep(0)
        try:
            rows += rows_of(message)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            log.warning("index.unreadable_event", sequence=message.sequence, error=repr(error))
        before = message.sequence
    index.add(rows, before, day)
    progress.events += len(rows)
    progress.messages += len(messages)


class _Progress:
    """How far a catching up is, how fast, and how long it will still take."""

    def __init__(self, first: int, target: int, tell: Callable[[str], None]) -> None:
        self.messages = self.events = 0
        self._first = first
        self._tell = tell
        self._began = time.monotonic()
        self._logged = self._began
        log.info("index.catching_up", applied=first, target=target)

    def figures(self) -> dict[str, float]:
        """For the log."""
        seconds = time.monotonic() - self._began
        return {
            "messages": self.messages,
            "events": self.events,
            "seconds": round(seconds, 1),
            "events_per_s": round(self.events / max(seconds, 1e-9)),
        }

    def tell(self, applied: int, target: int) -> None:
        """Says so, and every few seconds in the log too."""
        now = time.monotonic()
        text = f"catching up with EVENTS: at {applied:,} of {target:,}"
        if applied > self._first and self.events:
            pace = (now - self._began) / (applied - self._first)
            text += f", {self.events / max(now - self._began, 1e-9):,.0f} events/s, about {pace * (target - applied):,.0f} s left"
        self._tell(text)
        if now - self._logged > _TOLD_EVERY_S:
            self._logged = now
            log.info("index.catching_up", applied=applied, target=target, **self.figures())
