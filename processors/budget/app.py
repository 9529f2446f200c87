"""The budget processor as the runner sees it."""

import asyncio

from faststream.nats import NatsBroker
from nats.aio.client import Client

from processors.budget.keeping import NAME, Keeping
from processors.budget.settings import BudgetSettings
from processors.runner import Processor, ProcessorContext
from processors.standby import OneAtWork, Turn


class BudgetProcessor:
    """Reads LEDGER and the budgets, publishes crossings, commands and flags."""

    name = NAME

    def __init__(self, context: ProcessorContext, settings: BudgetSettings, turn: Turn) -> None:
        self._context = context
        self._settings = settings
        self._turn = turn
        self._client: Client | None = None
        self._keeping: Keeping | None = None
        self._stopping = asyncio.Event()
        self._resting = asyncio.Event()
        self._resting.set()

    async def start(self) -> None:
        """Connects and restores the last checkpoints."""
        self._stopping.clear()
        self._client = await self._context.connect(f"processor-{NAME}")
        self._keeping = await Keeping.begin(self._client, self._settings, self._turn, self._stopping)

    async def run(self) -> None:
        """Keeps the books until stopped."""
        assert self._keeping is not None, "start() first"
        self._resting.clear()
        try:
            await self._keeping.run()
        finally:
            self._resting.set()

    async def stop(self) -> None:
        """Lets what is being written be stored, then closes the connection."""
        self._stopping.set()
        await self._resting.wait()
        client, self._client, self._keeping = self._client, None, None
        if client is not None:
            await client.close()

    def waiting_for(self) -> dict[str, str]:
        """Not ready before everything stored has been read once."""
        return {} if self._keeping is not None and self._keeping.listening else {"ledger": "catching up"}


def attach(broker: NatsBroker, context: ProcessorContext) -> Processor:
    """The budget processor, one instance at work; it reads in order and needs no subscriber of the broker's."""
    del broker
    settings = BudgetSettings()
    return OneAtWork(NAME, context, lambda turn: BudgetProcessor(context, settings, turn))
