"""Bringing an index up to its stream: after a kill a few messages, after its loss all of them."""

import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import nats.errors
import structlog
from nats.aio.client import Client

from streams.messages import Received
from streams.reader import OrderedReader, Source

log = structlog.get_logger(__name__)

_FETCHED: Final = 2000
_TOLD_EVERY_S: Final = 10.0


class Derived(Protocol):
    """What is derived from a stream."""

    @property
    def applied(self) -> int:
        """Everything up to this sequence is known."""

    async def apply(self, messages: list[Received]) -> int:
        """Takes in ``messages``, which follow ``applied``, and moves it to the last of them; returns how many rows that were."""


async def catch_up(
    client: Client, source: Source, derived: Derived, newest: Callable[[], Awaitable[int]], tell: Callable[[str], None]
) -> int:
    """Applies everything of ``source`` up to what is ``newest`` now; returns how many messages that took.

    Raises nats errors when the server is away, and the index's own: call again. ``tell`` hears how far it is.
    """
    target = await newest()
    if derived.applied >= target:
        return 0
    progress = _Progress(source.stream, derived.applied, target, tell)
    reader = OrderedReader(client, source, derived.applied)
    try:
        while derived.applied < target:
            progress.tell(derived.applied, target)
            messages = await reader.fetch(_FETCHED, 5.0)
            if not messages:
                if not client.is_connected:
                    raise nats.errors.ConnectionReconnectingError
                # What was the last may have aged out meanwhile.
                target = min(target, await newest())
                continue
            progress.rows += await derived.apply(messages)
            progress.messages += len(messages)
    finally:
        await reader.close()
    log.info("index.caught_up", stream=source.stream, applied=derived.applied, **progress.figures())
    return progress.messages


class _Progress:
    """How far a catching up is, how fast, and how long it will still take."""

    def __init__(self, stream: str, first: int, target: int, tell: Callable[[str], None]) -> None:
        self.messages = self.rows = 0
        self._stream = stream
        self._first = first
        self._tell = tell
        self._began = time.monotonic()
        self._logged = self._began
        log.info("index.catching_up", stream=stream, applied=first, target=target)

    def figures(self) -> dict[str, float]:
        """For the log."""
        seconds = time.monotonic() - self._began
        return {
            "messages": self.messages,
            "events": self.rows,
            "seconds": round(seconds, 1),
            "events_per_s": round(self.rows / max(seconds, 1e-9)),
        }

    def tell(self, applied: int, target: int) -> None:
        """Says so, and every few seconds in the log too."""
        now = time.monotonic()
        text = f"catching up with {self._stream}: at {applied:,} of {target:,}"
        if applied > self._first and self.rows:
            pace = (now - self._began) / (applied - self._first)
            text += f", {self.rows / max(now - self._began, 1e-9):,.0f} events/s, about {pace * (target - applied):,.0f} s left"
        self._tell(text)
        if now - self._logged > _TOLD_EVERY_S:
            self._logged = now
            log.info("index.catching_up", stream=self._stream, applied=applied, target=target, **self.figures())
