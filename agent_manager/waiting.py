"""What the manager waits for before it works: NATS, and the buckets and the stream it lives from."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import nats.errors
import structlog
from nats.aio.client import Client
from pydantic import BaseModel

from schemas.budgets import BudgetFlag
from schemas.state import AgentRecord, AgentState, FaultSet, Observation
from schemas.versions import Releases, Sighting
from streams import topology
from streams.connect import CannotConnectError, connect
from streams.kv import BucketMissingError, TypedBucket
from streams.settings import NatsSettings

log = structlog.get_logger(__name__)

Value = TypeVar("Value", bound=BaseModel)

_PATIENCE_S: Final = 5.0
_AGAIN_S: Final = 0.3
_SAY_AGAIN: Final = 100
"""The same reason is logged again after this many tries."""


@dataclass(frozen=True, slots=True)
class Opened(Generic[Value]):
    """A bucket, and what stood in it when it was opened."""

    bucket: TypedBucket[Value]
    present: dict[str, Value]


@dataclass(frozen=True, slots=True)
class Buckets:
    """Everything the manager reads and writes."""

    registry: Opened[AgentRecord]
    states: Opened[AgentState]
    faults: Opened[FaultSet]
    observations: Opened[Observation]
    releases: Opened[Releases]
    sightings: Opened[Sighting]
    flags: Opened[BudgetFlag]


class Waiting:
    """Says what is waited for, in the log when it changes and in ``on`` all the time."""

    def __init__(self) -> None:
        self.on: dict[str, str] = {"nats": "not connected yet"}
        self._tries = 0

    def __call__(self, part: str, reason: str) -> None:
        """Still waiting for ``part``, because of ``reason``."""
        self._tries = 0 if self.on.get(part) != reason else self._tries + 1
        self.on = {part: reason}
        if self._tries % _SAY_AGAIN == 0:
            log.warning("manager.waiting", on=part, reason=reason)

    def over(self) -> None:
        """Nothing is waited for any more."""
        self.on = {}

    async def for_nats(self, settings: NatsSettings, on_reconnect: Callable[[], Awaitable[None]]) -> Client:
        """A connection, however long it takes."""
        while True:
            try:
                return await connect(settings, "agent_manager", patience_s=_PATIENCE_S, on_reconnect=on_reconnect)
            except CannotConnectError as error:
                self("nats", str(error))
                await asyncio.sleep(_AGAIN_S)

    async def for_buckets(self, client: Client) -> Buckets:
        """The buckets, once somebody has applied the topology."""
        while True:
            try:
                await client.jsm().stream_info(topology.COMMANDS)
                return Buckets(
                    await _open(client, topology.REGISTRY, AgentRecord),
                    await _open(client, topology.AGENT_STATES, AgentState),
                    await _open(client, topology.FAULTS, FaultSet),
                    await _open(client, topology.OBSERVATIONS, Observation),
                    await _open(client, topology.RELEASES, Releases),
                    await _open(client, topology.SIGHTINGS, Sighting),
                    await _open(client, topology.BUDGET_FLAGS, BudgetFlag),
                )
            except (BucketMissingError, nats.errors.Error, TimeoutError, OSError) as error:
                self("topology", str(error) or repr(error))
                await asyncio.sleep(_AGAIN_S)


async def _open(client: Client, name: str, model: type[Value]) -> Opened[Value]:
    bucket = await TypedBucket.open(client, name, model)
    return Opened(bucket, await bucket.all())
