"""An agent's versions, and the history of every change, from NATS."""

import asyncio
import json
from dataclasses import dataclass
from datetime import datetime

import nats.js.errors
from nats.aio.client import Client
from pydantic import ValidationError

from agent_manager.cli.failure import CommandFailedError
from schemas.commands import AuditRecord
from schemas.versions import RegistryChange, Releases
from streams import subjects, topology
from streams.kv import BucketMissingError, TypedBucket
from streams.reader import OrderedReader, Source

_DEADLINE_S = 15.0


@dataclass(frozen=True, slots=True)
class Told:
    """One change in the history."""

    at: datetime
    by: str
    reason: str
    change: RegistryChange


async def versions(client: Client, key: str) -> Releases | None:
    """The versions of one agent."""
    try:
        async with asyncio.timeout(_DEADLINE_S):
            entry = await (await TypedBucket.open(client, topology.RELEASES, Releases)).get(key)
    except BucketMissingError as error:
        raise CommandFailedError(f"bucket {topology.RELEASES!r} does not exist", "Run `agentops streams apply`") from error
    return entry.value if entry is not None else None


async def history(client: Client, tenant: str | None, agent: str) -> list[Told]:
    """Every change of one agent, oldest first; deleted agents have one, too. Without a tenant: of every tenant's."""
    subject = subjects.registry_history(tenant, agent) if tenant else subjects.registry_history_of(agent)
    reader = OrderedReader(client, Source(topology.AUDIT, (subject,)))
    found: list[Told] = []
    try:
        async with asyncio.timeout(_DEADLINE_S):
            while not (reader.begun and reader.caught_up):
                for message in await reader.fetch(1000, 0.2):
                    told = _told(message.data)
                    if told is not None:
                        found.append(told)
    except (nats.js.errors.Error, TimeoutError) as error:
        raise CommandFailedError("AUDIT could not be read in time", "See `agentops doctor`") from error
    finally:
        await reader.close()
    return found


def _told(data: bytes) -> Told | None:
    try:
        record = AuditRecord.model_validate_json(data)
        change = RegistryChange.model_validate_json(json.dumps(record.params))
    except ValidationError:
        return None
    return Told(record.at, record.actor, record.reason, change)
