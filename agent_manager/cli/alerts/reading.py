"""Alerts from their stream: it is whole even while the warehouse is away."""

from collections.abc import AsyncGenerator

from nats.aio.client import Client
from pydantic import ValidationError

from agent_manager.cli.positions import last_sequence
from schemas.alerts import AlertChange
from streams import subjects, topology
from streams.reader import OrderedReader, Source


def _read(raw: bytes) -> AlertChange | None:
    try:
        return AlertChange.model_validate_json(raw)
    except ValidationError:
        return None


async def changes(client: Client, tenant: str | None = None) -> list[AlertChange]:
    """Every change the stream holds, oldest first."""
    last = await last_sequence(client, topology.ALERTS)
    found = []
    if last:
        reader = OrderedReader(client, Source(topology.ALERTS, (subjects.alerts_matching(tenant, None),)))
        try:
            while reader.position < last and (messages := await reader.fetch(1000, 1.0)):
                found += [change for message in messages if (change := _read(message.data)) is not None]
                if messages[-1].pending == 0:
                    break
        finally:
            await reader.close()
    return found


async def coming(client: Client, tenant: str | None = None, after: int | None = None) -> AsyncGenerator[AlertChange, None]:
    """Every change after sequence ``after`` (default: from now on), for ever."""
    position = await last_sequence(client, topology.ALERTS) if after is None else after
    reader = OrderedReader(client, Source(topology.ALERTS, (subjects.alerts_matching(tenant, None),)), position)
    try:
        while True:
            for message in await reader.fetch(100, 60.0):
                change = _read(message.data)
                if change is not None:
                    yield change
    finally:
        await reader.close()
