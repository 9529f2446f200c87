"""The health processor as the runner sees it."""

import asyncio
from typing import Final

import nats.errors
import structlog
from faststream.nats import NatsBroker
from nats.aio.client import Client

from processors.health.settings import HealthSettings
from processors.health.watching import Watching
from processors.runner import Processor, ProcessorContext
from processors.standby import OneAtWork, Turn
from service.instruments import LOOP_ERRORS

log = structlog.get_logger(__name__)

_NAME: Final = "health"
_PAUSE_S: Final = 0.25


class HealthProcessor:
    """Reads EVENTS, writes ``observations`` and checkpoints, publishes ``agent.status_changed``."""

    name = _NAME

    def __init__(self, context: ProcessorContext, settings: HealthSettings, turn: Turn) -> None:
        self._context = context
        self._settings = settings
        self._turn = turn
        self._client: Client | None = None
        self._watching: Watching | None = None
        self._stopping = asyncio.Event()
        self._resting = asyncio.Event()
        self._resting.set()

    async def start(self) -> None:
        """Connects and restores the last checkpoint."""
        self._stopping.clear()
        self._client = await self._context.connect(f"processor-{_NAME}")
        self._watching = await Watching.begin(self._client, self._settings, self._turn)

    async def run(self) -> None:
        """Judges until stopped; then writes what is not written yet."""
        assert self._watching is not None, "start() first"
        self._resting.clear()
        try:
            while not self._stopping.is_set():
                try:
                    await self._watching.step()
                except (nats.errors.Error, TimeoutError, OSError) as error:
                    LOOP_ERRORS.labels(_NAME).inc()
                    log.warning("health.again", error=repr(error))
                    await asyncio.sleep(_PAUSE_S)
            await self._watching.close()
        finally:
            self._resting.set()

    async def stop(self) -> None:
        """Lets the step under way finish, then closes the connection."""
        self._stopping.set()
        await self._resting.wait()
        client, self._client, self._watching = self._client, None, None
        if client is not None:
            await client.close()

    def waiting_for(self) -> dict[str, str]:
        """Not ready before everything stored has been read once."""
        return {} if self._watching is not None and self._watching.listening else {"events": "catching up"}


def attach(broker: NatsBroker, context: ProcessorContext) -> Processor:
    """The health processor, one instance at work; it reads in order and needs no subscriber of the broker's."""
    del broker
    settings = HealthSettings()
    return OneAtWork(_NAME, context, lambda turn: HealthProcessor(context, settings, turn))
