"""The way of events from an agent to its sidecar."""

import asyncio
import json
import logging
import random
from collections import deque
from typing import Any, Final, Literal

import aiohttp

logger = logging.getLogger(__name__)

CAPACITY: Final = 1_000
BATCH: Final = 200
_BACKOFF_FIRST_S: Final = 0.2
_BACKOFF_MOST_S: Final = 5.0
_BACKOFF_CLOSING_S: Final = 0.1

Delivery = Literal["stored", "again", "never"]


class Outbox:
    """Events waiting for the sidecar, sent by one background task in batches, oldest first.

    Holds at most ``capacity`` events, the batch being sent included; one more drops the oldest that waits, counted in
    ``dropped``. ``add`` never waits and never raises, so a request neither slows down nor fails with telemetry.
    """

    def __init__(self, url: str | None, *, capacity: int = CAPACITY, timeout_s: float = 5.0) -> None:
        self._url = url and f"{url}/v1/events"
        self._capacity = capacity
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._pending: deque[bytes] = deque()
        self._sending: list[bytes] = []
        self._wake = asyncio.Event()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.dropped = 0
        """Events lost because the outbox was full or the agent ended first."""
        self.rejected = 0
        """Events the sidecar refused for good."""

    def add(self, event: dict[str, Any]) -> None:
        """Queues ``event``; without a sidecar it goes nowhere."""
        if self._url is None:
            return
        if self._pending and len(self._pending) + len(self._sending) >= self._capacity:
            self._pending.popleft()
            self._drop(1)
        self._pending.append(json.dumps(event, separators=(",", ":")).encode())
        self._wake.set()

    def start(self) -> None:
        """Starts the sender."""
        if self._url is not None:
            self._task = asyncio.create_task(self._send_until_closed(self._url), name="telemetry")

    async def close(self, within_s: float) -> None:
        """Sends what is left, for at most ``within_s``; the rest is dropped and counted."""
        if self._task is None:
            return
        self._closing.set()
        self._wake.set()
        done, _ = await asyncio.wait({self._task}, timeout=within_s)
        if not done:
            self._task.cancel()
            await asyncio.wait({self._task})
        left = len(self._pending) + len(self._sending)
        if left:
            self._drop(left)

    def _drop(self, count: int) -> None:
        if self.dropped == 0 or self._closing.is_set():
            logger.warning("telemetry: %d event(s) dropped, the sidecar does not take them", count)
        self.dropped += count

    async def _send_until_closed(self, url: str) -> None:
        async with aiohttp.ClientSession(timeout=self._timeout) as session:
            while True:
                while self._pending:
                    self._sending = [self._pending.popleft() for _ in range(min(BATCH, len(self._pending)))]
                    await self._deliver(session, url)
                    self._sending = []
                if self._closing.is_set():
                    return
                self._wake.clear()
                await self._wake.wait()

    async def _deliver(self, session: aiohttp.ClientSession, url: str) -> None:
        backoff_s = _BACKOFF_FIRST_S
        while True:
            delivery = await self._post(session, url)
            if delivery == "stored":
                return
            if delivery == "never":
                self.rejected += len(self._sending)
                return
            await self._pause(backoff_s * random.uniform(0.5, 1.0))
            backoff_s = min(backoff_s * 2, _BACKOFF_MOST_S)

    async def _post(self, session: aiohttp.ClientSession, url: str) -> Delivery:
        headers = {"Content-Type": "application/x-ndjson"}
        try:
            async with session.post(url, data=b"\n".join(self._sending), headers=headers) as response:
                if response.status < 300:
                    return "stored"
                if response.status in {408, 425, 429} or response.status >= 500:
                    return "again"
                logger.error("telemetry: the sidecar refused %d event(s) with HTTP %d", len(self._sending), response.status)
                return "never"
        except (aiohttp.ClientError, OSError, TimeoutError):
            return "again"
        except Exception:
            # This is the edge of the sender's loop: a sender that died would fill the outbox without a sign.
            logger.exception("telemetry: sending failed unexpectedly")
            return "again"

    async def _pause(self, seconds: float) -> None:
        if self._closing.is_set():
            await asyncio.sleep(min(seconds, _BACKOFF_CLOSING_S))
            return
        try:
            await asyncio.wait_for(self._closing.wait(), seconds)
        except TimeoutError:
            return
