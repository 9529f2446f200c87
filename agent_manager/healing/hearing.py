"""Hearing what others say of agents: the health processor how they are, the budget processor whose money is spent."""

import asyncio
from collections.abc import Mapping

from agent_manager.lifecycle.fleet import Fleet
from schemas.budgets import BudgetFlag
from schemas.state import Observation
from streams.kv import TypedBucket


class Hearing:
    """Passes every observation on to the fleet. After a reconnect all are read again: nothing said meanwhile is missed."""

    def __init__(self, observations: TypedBucket[Observation], fleet: Fleet, reconnected: asyncio.Event) -> None:
        self._observations = observations
        self._fleet = fleet
        self._reconnected = reconnected

    async def run(self) -> None:
        """For ever."""
        while True:
            self._reconnected.clear()
            listening = asyncio.create_task(self._listen(), name="manager-listen")
            again = asyncio.create_task(self._reconnected.wait(), name="manager-reconnected")
            try:
                await asyncio.wait({listening, again}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (listening, again):
                    task.cancel()
                results = await asyncio.gather(listening, again, return_exceptions=True)
            self._fleet.wake_all()
            if isinstance(results[0], Exception):
                raise results[0]

    async def _listen(self) -> None:
        async for entry in self._observations.watch():
            self._fleet.heard(entry.key, entry.value)


class Flags:
    """The flags of exhausted budgets, as they stand. A flag ends by itself with its period."""

    def __init__(self, bucket: TypedBucket[BudgetFlag], present: Mapping[str, BudgetFlag]) -> None:
        self.present = dict(present)
        self._bucket = bucket

    async def run(self) -> None:
        """For ever."""
        async for entry in self._bucket.watch():
            if entry.value is None:
                self.present.pop(entry.key, None)
            else:
                self.present[entry.key] = entry.value
