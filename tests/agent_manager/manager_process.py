"""A manager with stand-in leaders in a process of its own, to be killed."""

import asyncio

from agent_manager.app import Manager
from agent_manager.settings import ManagerSettings
from service import logs
from service.signals import stop_event
from streams.settings import NatsSettings
from tests.agent_manager.world import line


async def main() -> None:
    await Manager(ManagerSettings(), NatsSettings(), line=line).run(stop_event())


if __name__ == "__main__":
    logs.configure("agent_manager")
    asyncio.run(main())
