"""Checkpoints: each agent's state under ``health.<tenant>.<agent>``, then, under ``health``, how far they reach.

States are written before the position, and each knows its own (``applied``): a crash in between costs nothing but
reading a few messages again.
"""

import asyncio
from collections.abc import Iterable
from typing import Final

from nats.aio.client import Client

from processors.health.state import AgentHealth, ReadUpTo
from streams import topology
from streams.kv import TypedBucket, agent_key

_KEY: Final = "health"
_TOGETHER: Final = 64


class Checkpoints:
    """The health processor's part of bucket ``checkpoints``."""

    def __init__(self, agents: TypedBucket[AgentHealth], position: TypedBucket[ReadUpTo]) -> None:
        self._agents = agents
        self._position = position

    @classmethod
    async def open(cls, client: Client) -> "Checkpoints":
        """Opens the bucket; raises BucketMissingError when the topology lacks it."""
        return cls(
            await TypedBucket.open(client, topology.CHECKPOINTS, AgentHealth),
            await TypedBucket.open(client, topology.CHECKPOINTS, ReadUpTo),
        )

    async def load(self) -> tuple[ReadUpTo | None, list[AgentHealth]]:
        """What was last written; None where nothing was."""
        found = await self._position.get(_KEY)
        agents = [entry.value async for entry in self._agents.watch(f"{_KEY}.>", once=True) if entry.value is not None]
        return (found.value if found else None), agents

    async def save(self, agents: Iterable[AgentHealth], position: ReadUpTo) -> None:
        """Writes states, then the position they reach. Raises what NATS raises; writing again is harmless."""
        waiting = list(agents)
        for start in range(0, len(waiting), _TOGETHER):
            await asyncio.gather(*(self._save_agent(agent) for agent in waiting[start : start + _TOGETHER]))
        await self._position.put(_KEY, position)

    async def _save_agent(self, agent: AgentHealth) -> None:
        await self._agents.put(f"{_KEY}.{agent_key(agent.tenant_id, agent.agent_id)}", agent)
