"""Which crossings EVENTS tells of: for budgets whose checkpoint is lost."""

from nats.aio.client import Client
from pydantic import ValidationError

from schemas.events import AcceptedEvent
from streams import subjects, topology
from streams.micro_batches import lines
from streams.reader import OrderedReader, Source

_MARK = b'"budget.threshold_hit"'


async def told_already(client: Client, tenant: str) -> set[str]:
    """Event ids of every ``budget.threshold_hit`` of ``tenant`` that EVENTS still holds. Raises what NATS raises."""
    reader = OrderedReader(client, Source(topology.EVENTS, (subjects.events(tenant, "budget"),)))
    found: set[str] = set()
    try:
        while True:
            messages = await reader.fetch(500, 1.0)
            for line in [line for message in messages for line in lines(message.data) if _MARK in line]:
                try:
                    found.add(str(AcceptedEvent.model_validate_json(line).event_id))
                except ValidationError:
                    continue
            if reader.caught_up or (not messages and reader.begun):
                return found
    finally:
        await reader.close()
