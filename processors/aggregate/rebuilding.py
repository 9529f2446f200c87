"""Applying a range of the streams to a warehouse, as fast as it goes: the next batch is read while one is stored."""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from nats.aio.client import Client

from processors.aggregate.batches import compose
from processors.aggregate.replaying import Read
from processors.aggregate.settings import AggregateSettings
from processors.aggregate.warehouse import Warehouse
from streams.messages import Received, promised
from streams.reader import OrderedReader, Source

_AT_ONCE: Final = 500
_WAIT_S: Final = 1.0
_SILENCE_S: Final = 30.0
_FOLDED: Final = 2_000_000
"""Rows after which they are folded into sums: what half a gigabyte of memory holds easily."""
_TELL_S: Final = 0.2

Tell = Callable[[Mapping[str, Any]], None]


class ReplayFailedError(Exception):
    """There will be no warehouse. The message says why, ``advice`` what to do."""

    def __init__(self, reason: str, advice: str = "") -> None:
        super().__init__(reason)
        self.advice = advice


class NotDeliveringError(ReplayFailedError):
    """A stream does not say what comes next. Trying again helps: what was read so far is stored."""


@dataclass(slots=True)
class Progress:
    """How far a replay is; told a few times a second."""

    tell: Tell
    total: int = 0
    messages: int = 0
    events: int = 0
    unreadable: int = 0
    _told: float = field(default=0.0)

    def say(self, state: str, *, at_once: bool = False, **more: Any) -> None:
        """One line, unless one was told just now."""
        moment = time.monotonic()
        if at_once or moment - self._told >= _TELL_S:
            self._told = moment
            counts = {"messages": self.messages, "of": self.total, "events": self.events, "unreadable": self.unreadable}
            self.tell({"state": state, **more, **counts})


class _Batches:
    """The messages of one stream, in as large batches as one transaction takes."""

    def __init__(self, client: Client, read: Read, settings: AggregateSettings) -> None:
        self._reader = OrderedReader(client, Source(read.stream), read.after)
        self._last = read.last
        self._settings = settings
        self._done = read.messages == 0

    async def next(self) -> list[Received]:
        """The next batch; empty at the end. Raises ReplayFailedError when messages stop coming."""
        taken: list[Received] = []
        events = size = 0
        heard = time.monotonic()
        while not self._done and events < self._settings.batch_events and size < self._settings.batch_bytes:
            found = await self._reader.fetch(_AT_ONCE, _WAIT_S)
            for message in found:
                if message.sequence > self._last:
                    break
                taken.append(message)
                events += promised(message)
                size += len(message.data)
            self._done = self._reader.position >= self._last or self._reader.caught_up
            if found:
                heard = time.monotonic()
            elif not self._done and time.monotonic() - heard > _SILENCE_S:
                name = self._reader.source.stream
                raise NotDeliveringError(
                    f"{name} stopped delivering after {self._reader.position:,}",
                    "Look at `agentops doctor`; the same command then goes on from here",
                )
        return taken

    async def close(self) -> None:
        """Reads no more."""
        await self._reader.close()


async def rebuild(
    client: Client, warehouse: Warehouse, read: Read, created: datetime, settings: AggregateSettings, progress: Progress
) -> None:
    """Applies one stream. Raises ReplayFailedError when it stops delivering, and what DuckDB raises."""
    batches, facts = _Batches(client, read, settings), 0
    begun = progress.messages

    def store(messages: list[Received]) -> tuple[int, int]:
        batch = compose({read.stream: messages})
        # Nothing is buried: the aggregate did so when it met the line first, and the letter is in the stream.
        warehouse.apply(batch, {read.stream: created}, datetime.now(UTC))
        return batch.rows, len(batch.unreadable)

    ahead = asyncio.create_task(batches.next(), name="replay-read")
    try:
        while messages := await ahead:
            ahead = asyncio.create_task(batches.next(), name="replay-read")
            rows, unreadable = await asyncio.to_thread(store, messages)
            facts += rows
            progress.messages = begun + messages[-1].sequence - read.after
            progress.events += sum(map(promised, messages))
            progress.unreadable += unreadable
            progress.say("reading", stream=read.stream, sequence=messages[-1].sequence, last=read.last)
            if facts >= _FOLDED:
                progress.say("summing", at_once=True, stream=read.stream)
                await asyncio.to_thread(warehouse.fold)
                facts = 0
        progress.messages = begun + read.messages
    finally:
        ahead.cancel()
        with suppress(asyncio.CancelledError, ReplayFailedError):
            await ahead
        await batches.close()
