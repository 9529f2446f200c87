"""The latest evaluation of an agent, read from EVENTS."""

import asyncio
from datetime import datetime
from typing import Final

from nats.aio.client import Client
from pydantic import ValidationError

from schemas.events import AcceptedEvent
from streams import subjects, topology
from streams.reader import OrderedReader, Source

_PATIENCE_S: Final = 10.0


async def latest_score(client: Client, tenant: str, agent: str, suite: str | None, since: datetime) -> float | None:
    """The score of the newest evaluation of ``agent`` that happened after ``since``; raises TimeoutError when EVENTS is slow."""
    reader = OrderedReader(client, Source(topology.EVENTS, (subjects.events(tenant, "evaluation"),)))
    best: tuple[datetime, float] | None = None
    try:
        async with asyncio.timeout(_PATIENCE_S):
            while not (reader.begun and reader.caught_up):
                for message in await reader.fetch(1000, 0.2):
                    for line in message.data.splitlines():
                        found = _score(line, agent, suite, since)
                        if found is not None and (best is None or found[0] >= best[0]):
                            best = found
    finally:
        await reader.close()
    return None if best is None else best[1]


def _score(line: bytes, agent: str, suite: str | None, since: datetime) -> tuple[datetime, float] | None:
    try:
        event = AcceptedEvent.model_validate_json(line)
    except ValidationError:
        return None
    done = event.evaluation
    if event.run.agent_id != agent or done is None or event.occurred_at < since or (suite is not None and done.suite != suite):
        return None
    return event.occurred_at, done.score
