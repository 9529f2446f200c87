"""Following the buckets and the alerts stream into the page model."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any, Final

import structlog
from nats.aio.client import Client
from pydantic import ValidationError

from dashboard.model.page import PageModel
from schemas.alerts import Acknowledgement, AlertChange
from schemas.budgets import BudgetDefinition, BudgetFlag
from schemas.state import AgentRecord, AgentState, FaultSet, Observation
from streams import topology
from streams.kv import TypedBucket
from streams.reader import OrderedReader, Source

log = structlog.get_logger(__name__)

ALERTS_BACK: Final = 2000
"""How many of the latest alert changes a fresh dashboard reads."""

BUCKETS: Final[tuple[tuple[str, type[Any]], ...]] = (
    (topology.REGISTRY, AgentRecord),
    (topology.AGENT_STATES, AgentState),
    (topology.OBSERVATIONS, Observation),
    (topology.FAULTS, FaultSet),
    (topology.ACKNOWLEDGEMENTS, Acknowledgement),
    (topology.BUDGETS, BudgetDefinition),
    (topology.BUDGET_FLAGS, BudgetFlag),
)


@dataclass(frozen=True, slots=True)
class Watched:
    """One bucket and what its values are."""

    name: str
    part: type[Any]
    bucket: TypedBucket[Any]


async def open_all(client: Client) -> list[Watched]:
    """Every bucket the page shows; raises BucketMissingError before the topology was applied."""
    return [Watched(name, part, await TypedBucket.open(client, name, part)) for name, part in BUCKETS]


def _put(model: PageModel, watched: Watched, key: str, value: Any) -> None:
    if watched.part is Acknowledgement:
        model.alerts.acknowledge(key, value)
    elif watched.part is BudgetDefinition:
        model.budgets.define(key, value)
    elif watched.part is BudgetFlag:
        model.budgets.flag(key, value)
    else:
        model.fleet.put(key, watched.part, value)


def _held(model: PageModel, watched: Watched) -> Iterable[str]:
    if watched.part is Acknowledgement:
        return ()
    if watched.part is BudgetDefinition:
        return tuple(model.budgets.definitions)
    return tuple(model.budgets.flags if watched.part is BudgetFlag else model.fleet.agents)


async def read_all(buckets: list[Watched], model: PageModel) -> None:
    """Takes all present values; what the model held of a bucket and is no longer there goes."""
    for watched in buckets:
        values = await watched.bucket.all()
        for key, value in values.items():
            _put(model, watched, key, value)
        for key in _held(model, watched):
            if key not in values:
                _put(model, watched, key, None)


async def follow(watched: Watched, model: PageModel, dirty: asyncio.Event) -> None:
    """Takes every change of a bucket, for ever."""
    async for entry in watched.bucket.watch():
        _put(model, watched, entry.key, entry.value)
        dirty.set()


async def alerts_position(client: Client, known: int | None) -> int:
    """Where to go on reading alerts: after ``known``, or shortly before the end of a stream not read before."""
    last = (await client.jetstream().stream_info(topology.ALERTS)).state.last_seq
    return known if known is not None and known <= last else max(0, last - ALERTS_BACK)


async def follow_alerts(client: Client, position: int, model: PageModel) -> AsyncIterator[int]:
    """Takes every alert change after ``position``; yields how far it has read."""
    reader = OrderedReader(client, Source(topology.ALERTS, buffer_messages=1000), position)
    try:
        while True:
            messages = await reader.fetch(500, 5.0)
            for message in messages:
                try:
                    model.alerts.take(AlertChange.model_validate_json(message.data))
                except ValidationError as error:
                    log.warning("alert.unreadable", sequence=message.sequence, problems=error.error_count())
            if messages:
                yield reader.position
    finally:
        await reader.close()
