"""A request's body as it comes: read whole where there is room, else passed on, and given up where it stalls.

Fullness: bodies that are held whole have at most ``together`` bytes; one more streams through unread, as one does that is too large.
"""

import time
from asyncio import timeout
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Final

from aiohttp import StreamReader

IDLE_S: Final = 30.0
LEAST_BYTES: Final = 1024
"""Must come in so many seconds: an upload may last for as long as it goes on, and one byte now and then is none."""


class StalledError(Exception):
    """The body does not go on. Sending it again may help."""


class Body:
    """The body of one request. Only waiting for it counts as time: whoever takes its parts may take their time."""

    def __init__(self, content: StreamReader, idle_s: float = IDLE_S) -> None:
        self._content = content
        self._idle_s = idle_s
        self._kept: list[bytes] = []
        self._left_s = idle_s
        self._since = 0
        self.stalled = False
        """Whether that was its end: a session that was given ``parts`` tells it in words of its own."""

    async def whole(self, fits: Callable[[int], bool]) -> bytes | None:
        """All of it; None once it does not fit, and then ``parts`` has it all. Raises StalledError."""
        size = 0
        async for part in self._arriving():
            self._kept.append(part)
            size += len(part)
            if not fits(size):
                return None
        whole, self._kept = b"".join(self._kept), []
        return whole

    async def parts(self) -> AsyncIterator[bytes]:
        """As it comes; raises StalledError."""
        kept, self._kept = self._kept, []
        for part in kept:
            yield part
        async for part in self._arriving():
            yield part

    async def _arriving(self) -> AsyncIterator[bytes]:
        while True:
            began = time.monotonic()
            try:
                async with timeout(self._left_s):
                    part = await self._content.readany()
            except TimeoutError as error:
                self.stalled = True
                raise StalledError from error
            if not part:
                return
            self._since += len(part)
            self._left_s -= time.monotonic() - began
            if self._since >= LEAST_BYTES:
                self._left_s, self._since = self._idle_s, 0
            yield part


class Holding:
    """How many bytes of bodies are held."""

    def __init__(self, each: int, together: int) -> None:
        self._each = each
        self._together = together
        self.bytes = 0

    @contextmanager
    def one(self) -> Iterator[Callable[[int], bool]]:
        """Whether a body that has grown to so many bytes may be held; what it holds is free again afterwards."""
        held = 0

        def fits(size: int) -> bool:
            nonlocal held
            if size > self._each or self.bytes + size - held > self._together:
                return False
            self.bytes += size - held
            held = size
            return True

        try:
            yield fits
        finally:
            self.bytes -= held
