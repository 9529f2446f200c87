"""The alerts processor as the runner sees it."""

import asyncio

from faststream.nats import NatsBroker
from nats.aio.client import Client

from processors.alerts.evaluating import NAME, Evaluating
from processors.alerts.rules import Rules, load_rules
from processors.alerts.settings import AlertSettings
from processors.runner import Processor, ProcessorContext
from processors.standby import OneAtWork, Turn


class AlertsProcessor:
    """Reads EVENTS, LEDGER and buckets, writes ALERTS and checkpoints."""

    name = NAME

    def __init__(self, context: ProcessorContext, settings: AlertSettings, rules: Rules, turn: Turn) -> None:
        self._context = context
        self._settings = settings
        self._rules = rules
        self._turn = turn
        self._client: Client | None = None
        self._evaluating: Evaluating | None = None
        self._stopping = asyncio.Event()
        self._resting = asyncio.Event()
        self._resting.set()

    async def start(self) -> None:
        """Connects and restores the last checkpoint."""
        self._stopping.clear()
        self._client = await self._context.connect(f"processor-{NAME}")
        self._evaluating = await Evaluating.begin(self._client, self._settings, self._rules, self._turn, self._stopping)

    async def run(self) -> None:
        """Evaluates until stopped."""
        assert self._evaluating is not None, "start() first"
        self._resting.clear()
        try:
            await self._evaluating.run()
        finally:
            self._resting.set()

    async def stop(self) -> None:
        """Lets what is being told be stored, then closes the connection."""
        self._stopping.set()
        await self._resting.wait()
        client, self._client, self._evaluating = self._client, None, None
        if client is not None:
            await client.close()

    def waiting_for(self) -> dict[str, str]:
        """Not ready before everything stored has been read once."""
        return {} if self._evaluating is not None and self._evaluating.listening else {"streams": "catching up"}


def attach(broker: NatsBroker, context: ProcessorContext) -> Processor:
    """The alerts processor, one instance at work; raises InvalidRulesError when its rules cannot be used."""
    del broker
    settings = AlertSettings()
    rules = load_rules(settings.rules)
    return OneAtWork(NAME, context, lambda turn: AlertsProcessor(context, settings, rules, turn))
