"""Gathering what several streams bring into one transaction, bounded: past the bound nothing more is read."""

import asyncio
from collections.abc import Mapping
from typing import Final

from streams.messages import Received, promised
from streams.reader import OrderedReader

_AT_ONCE: Final = 64
"""Messages taken from a reader at a time; each has up to half a megabyte."""
_WAIT_S: Final = 5.0
LARGEST_SHARE: Final = 0.4


def pause_s(last_commit_s: float, last_events: int, share: float, shortest_s: float, longest_s: float) -> float:
    """How long to gather before the next transaction.

    A trickle may spend ``share`` of the time in transactions; the more events the last one had, the larger a share is
    worth it, up to ``LARGEST_SHARE``. More would not make rows visible sooner: what transactions take of the cores,
    everything that stands before them lacks.
    """
    worth = min(LARGEST_SHARE, max(share, last_events / 100))
    return min(longest_s, max(shortest_s, last_commit_s * (1 / worth - 1)))


class Gatherer:
    """What has been read and not been taken yet, by stream. Bounded at ``most_events`` and ``most_bytes``, then readers wait."""

    def __init__(self, readers: Mapping[str, OrderedReader], most_events: int, most_bytes: int) -> None:
        self.readers = readers
        self._most_events = most_events
        self._most_bytes = most_bytes
        self._held: dict[str, list[Received]] = {}
        self.events = 0
        self._bytes = 0
        self._something = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._plenty = asyncio.Event()

    async def pull(self, stream: str) -> None:
        """Reads ``stream`` for ever, as long as there is room."""
        reader = self.readers[stream]
        while True:
            await self._room.wait()
            messages = await reader.fetch(_AT_ONCE, _WAIT_S)
            if not messages:
                continue
            self._held.setdefault(stream, []).extend(messages)
            self.events += sum(promised(message) for message in messages)
            self._bytes += sum(len(message.data) for message in messages)
            if self.events >= self._most_events or self._bytes >= self._most_bytes:
                self._room.clear()
            self._plenty.set()
            self._something.set()

    async def wait(self) -> None:
        """Returns when something is there."""
        await self._something.wait()

    async def linger(self, seconds: float, enough: int) -> None:
        """Lets more come in, for ``seconds`` or until ``enough`` events are there or there is no more room."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while self.events < enough and self._room.is_set() and (left := deadline - loop.time()) > 0:
            self._plenty.clear()
            try:
                async with asyncio.timeout(left):
                    await self._plenty.wait()
            except TimeoutError:
                return

    def take(self) -> dict[str, list[Received]]:
        """Everything there is."""
        taken, self._held = self._held, {}
        self.events = self._bytes = 0
        self._something.clear()
        self._room.set()
        return taken
