"""The heart: one beat every interval, and one at once whenever something changed."""

import asyncio
import time
from collections.abc import Callable

import structlog

from service.instruments import LOOP_ERRORS

log = structlog.get_logger(__name__)


class Heart:
    """Calls ``beat`` every ``interval_s``, and at once after ``changed``; changes together make one beat."""

    def __init__(self, interval_s: float, beat: Callable[[], None]) -> None:
        self._interval_s = interval_s
        self._beat = beat
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Something is different from the last beat."""
        self._changed.set()

    async def run(self) -> None:
        """Beats until cancelled. A beat for a change does not move the regular ones."""
        due = time.monotonic()
        while True:
            try:
                async with asyncio.timeout(max(0.0, due - time.monotonic())):
                    await self._changed.wait()
            except TimeoutError:
                due = max(due + self._interval_s, time.monotonic())
            self._changed.clear()
            try:
                self._beat()
            except Exception:
                LOOP_ERRORS.labels("heartbeat").inc()
                log.exception("heartbeat.failed")
