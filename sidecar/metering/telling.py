"""Events on their way from calls to the intake: a call never waits for a disk, and nothing is kept twice.

Fullness: at most ``MOST_WAITING`` events wait here while the intake has no room; one more is dropped, counted and logged.
"""

import asyncio
from collections import deque
from typing import Final

import structlog

from schemas.events import Event
from service.instruments import LOOP_ERRORS, SPOOL_DROPPED
from sidecar.frames import Record
from sidecar.intake import Intake
from sidecar.reports import record
from sidecar.spool import Full

log = structlog.get_logger(__name__)

MOST_WAITING: Final = 10_000
_MOST_AT_ONCE: Final = 200
_AGAIN_S: Final = 0.5


class Telling:
    """Takes events at once, and hands them on in order."""

    def __init__(self, intake: Intake, tenant: str, agent: str) -> None:
        self._intake = intake
        self._tenant = tenant
        self._agent = agent
        self._waiting: deque[Record] = deque()
        self._arrived = asyncio.Event()
        self._handing = asyncio.Lock()
        self.dropped = 0
        """Events that found no room."""

    def tell(self, event: Event) -> None:
        """``event`` is on its way."""
        if len(self._waiting) >= MOST_WAITING:
            self.dropped += 1
            SPOOL_DROPPED.labels(event.kind).inc()
            log.error("metering.dropped", event_id=str(event.event_id), kind=event.kind, reason="the intake has no room")
            return
        self._waiting.append(record(event))
        self._arrived.set()

    async def run(self) -> None:
        """Hands on until cancelled."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            try:
                if not await self._hand_on():
                    await asyncio.sleep(_AGAIN_S)
                    self._arrived.set()
            except Exception:
                LOOP_ERRORS.labels("metering-telling").inc()
                log.exception("metering.telling_failed")
                await asyncio.sleep(_AGAIN_S)
                self._arrived.set()

    async def _hand_on(self) -> bool:
        """Whether all that waits was taken."""
        async with self._handing:
            while self._waiting:
                some = [self._waiting[place] for place in range(min(_MOST_AT_ONCE, len(self._waiting)))]
                if isinstance(await self._intake.take(self._tenant, self._agent, some), Full):
                    return False
                for _ in some:
                    self._waiting.popleft()
            return True

    async def flush(self) -> None:
        """A last try; what finds no room is dropped, counted and logged."""
        if not await self._hand_on():
            for left in self._waiting:
                self.dropped += 1
                SPOOL_DROPPED.labels(left.kind).inc()
            log.error("metering.dropped", events=len(self._waiting), reason="the intake has no room, and the sidecar ends")
            self._waiting.clear()
