"""How far validate has covered TELEMETRY, as its stored records tell, and what still waits there.

Asked of the leaders of the streams, never of a copy that may be behind: messages are purged by what is answered here.
"""

from dataclasses import dataclass
from datetime import datetime

import nats.js.errors
from nats.aio.client import Client
from nats.js.api import RawStreamMsg

from schemas.coverage import Coverage
from streams import subjects, topology


@dataclass(frozen=True, slots=True)
class Waiting:
    """What validate has not covered yet."""

    messages: int
    """At most so many: with several partitions those of the others between are counted too."""
    oldest: datetime | None = None
    """When the first of them was stored; None where nothing waits."""


async def covered(client: Client, partition: int) -> int:
    """The last sequence that ``partition`` of validate has covered for certain: it is stored; 0 before the first record."""
    try:
        message = await client.jsm().get_last_msg(topology.EVENTS, subjects.covered("validate", partition))
    except nats.js.errors.NotFoundError:
        return 0
    return Coverage.model_validate_json(message.data or b"").last_sequence


async def first_after(client: Client, partition: int, partitions: int, position: int) -> RawStreamMsg | None:
    """The first message after ``position`` that belongs to ``partition``; None where there is none."""
    found = []
    for only in subjects.of_partition(partition) if partitions > 1 else (subjects.ALL_TELEMETRY,):
        try:
            found.append(await client.jsm().get_msg(topology.TELEMETRY, position + 1, only, next=True))
        except nats.js.errors.NotFoundError:
            continue
    return min(found, key=lambda message: message.seq or 0, default=None)


async def waiting(client: Client) -> Waiting:
    """What waits in TELEMETRY, and since when. Raises what NATS raises; trying again helps."""
    info = await client.jsm().stream_info(topology.TELEMETRY)
    partitions = topology.partitions_of(info.config)
    behind = []
    for partition in range(partitions):
        position = await covered(client, partition)
        message = await first_after(client, partition, partitions, position)
        if message is not None:
            behind.append((max(position, info.state.first_seq - 1), message.time))
    if not behind:
        return Waiting(0)
    oldest = min((time for _, time in behind if time is not None), default=None)
    return Waiting(max(1, info.state.last_seq - min(position for position, _ in behind)), oldest)
