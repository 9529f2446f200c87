"""Each agent by the driver that its record names; each instance by the driver that started it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import structlog

from agent_manager.drivers.driver import Driver, Exit, Instance, LaunchError
from schemas.state import AgentRecord, AgentState, DriverName

log = structlog.get_logger(__name__)

MakeDriver = Callable[[], Awaitable[Driver[Any]]]
"""Makes a driver when the first agent needs it; raises LaunchError."""


@dataclass(slots=True)
class Kinds:
    """Every kind of driver, behind the protocol of one."""

    makers: dict[DriverName, MakeDriver]
    _made: dict[DriverName, Driver[Any]] = field(default_factory=dict)
    _making: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def of(self, name: DriverName) -> Driver[Any]:
        """The driver called ``name``; raises LaunchError where it cannot be had."""
        async with self._making:
            if name not in self._made:
                self._made[name] = await self.makers[name]()
        return self._made[name]

    async def start(
        self, record: AgentRecord, instance_id: str, remembered: AgentState | None, *, restarted: str = ""
    ) -> Instance:
        """By the driver that the record names."""
        found: Instance = await (await self.of(record.driver)).start(record, instance_id, remembered, restarted=restarted)
        return found

    async def stop(self, instance: Instance, patience_s: float, *, restarting: str = "") -> Exit:
        """By the driver that started it."""
        return await self._made[instance.driver].stop(instance, patience_s, restarting=restarting)

    def observe(self, instance: Instance) -> Exit | None:
        """By the driver that started it."""
        return self._made[instance.driver].observe(instance)

    async def answers(self, instance: Instance) -> bool:
        """By the driver that started it."""
        return await self._made[instance.driver].answers(instance)

    def told(self, instance: Instance) -> dict[str, Any]:
        """By the driver that started it."""
        return self._made[instance.driver].told(instance)

    async def adopt(self, record: AgentRecord, remembered: AgentState | None) -> Instance | None:
        """What runs of it, also where an earlier record named another driver."""
        others: list[DriverName] = ["local"] if record.driver != "local" and remembered and remembered.pid is not None else []
        for name in (record.driver, *others):
            try:
                found: Instance | None = await (await self.of(name)).adopt(record, remembered)
            except LaunchError as error:
                log.error("driver.missing", driver=name, agent_id=record.agent_id, reason=str(error))
                continue
            if found is not None:
                return found
        return None

    async def close(self) -> None:
        """Every driver lets go."""
        for driver in self._made.values():
            await driver.close()
