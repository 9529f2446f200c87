"""Checkpoints: the agents' states in portions under ``health.portion.<n>``, then, under ``health.read``, how far they reach.

A portion is all agents whose key falls into it: one write for many, where one for each would cost more than judging them.
States are written before the position, and each knows its own (``applied``): a crash in between costs nothing but
reading a few messages again.
"""

from collections.abc import Collection, Mapping
from typing import Final
from zlib import crc32

import nats.errors
import structlog
from nats.aio.client import Client

from processors.health.state import AgentHealth, Portion, ReadUpTo
from schemas.sections import Metrics
from streams import topology
from streams.kv import TypedBucket

log = structlog.get_logger(__name__)

_POSITION: Final = "health.read"
_PORTION: Final = "health.portion"
_PORTIONS: Final = 256
"""With the most agents there may be, eighty to a portion: a hundred kilobytes, unless they tell very much of themselves."""


class CheckpointNotWrittenError(nats.errors.Error):
    """A portion was not acknowledged. Writing all of it again is harmless, and helps once NATS answers."""


def _portion(key: str) -> str:
    return f"{_PORTION}.{crc32(key.encode()) % _PORTIONS}"


def _lean(agent: AgentHealth) -> AgentHealth:
    """All that it is judged by. What it measured is left out: its next heartbeat tells that again."""
    return agent.model_copy(update={"metrics": Metrics(), "checks": ()})


class Checkpoints:
    """The health processor's part of bucket ``checkpoints``."""

    def __init__(self, portions: TypedBucket[Portion], position: TypedBucket[ReadUpTo]) -> None:
        self._portions = portions
        self._position = position

    @classmethod
    async def open(cls, client: Client) -> "Checkpoints":
        """Opens the bucket; raises BucketMissingError when the topology lacks it."""
        return cls(
            await TypedBucket.open(client, topology.CHECKPOINTS, Portion),
            await TypedBucket.open(client, topology.CHECKPOINTS, ReadUpTo),
        )

    async def load(self) -> tuple[ReadUpTo | None, list[AgentHealth]]:
        """What was last written; None where nothing was."""
        found = await self._position.get(_POSITION)
        portions = [entry.value async for entry in self._portions.watch(f"{_PORTION}.>", once=True) if entry.value is not None]
        return (found.value if found else None), [agent for portion in portions for agent in portion.agents]

    async def save(self, agents: Mapping[str, AgentHealth], changed: Collection[str], position: ReadUpTo) -> None:
        """Writes the portions in which anything ``changed``, then the position they reach.

        Raises CheckpointNotWrittenError and what NATS raises; writing again is harmless.
        """
        due: dict[str, list[AgentHealth]] = {_portion(key): [] for key in changed}
        for key, agent in agents.items():
            several = due.get(_portion(key))
            if several is not None:
                several.append(agent)
        failed = await self._portions.put_all({name: Portion(agents=tuple(several)) for name, several in due.items()})
        large = [name for name, error in failed.items() if isinstance(error, nats.errors.MaxPayloadError)]
        if large:
            log.warning("health.checkpoint_lean", portions=len(large))
            failed = {name: error for name, error in failed.items() if name not in large}
            failed |= await self._portions.put_all({name: Portion(agents=tuple(map(_lean, due[name]))) for name in large})
        if failed:
            raise CheckpointNotWrittenError(f"{len(failed)} of {len(due)} portions: {next(iter(failed.values()))!r}")
        await self._position.put(_POSITION, position)
