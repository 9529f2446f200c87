"""A processor at work inside a test, events to give it, and what it made of them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
from nats.aio.client import Client

from processors.runner import Attach, ProcessorContext, Supervised
from schemas.coverage import Coverage
from schemas.dead_letters import DeadLetter
from schemas.events import KIND_OF, AcceptedEvent
from schemas.ledger import LedgerEntry
from streams.broker import broker
from streams.connect import connect
from streams.embedded import EmbeddedServer
from streams.messages import CONTENT_TYPE, NDJSON, Received
from streams.micro_batches import lines
from streams.publish import publish
from streams.reader import OrderedReader, Source
from tests.conftest import until


def supervised_processor(attach: Attach, server: EmbeddedServer, data: Path, instance: str = "test") -> Supervised:
    """The processor as the runner holds it, not started."""

    async def own(name: str) -> Client:
        return await connect(server.settings(), f"{instance}-{name}")

    return Supervised(attach(broker(server.settings(), instance), ProcessorContext(data, instance, own)))


@asynccontextmanager
async def running(attach: Attach, server: EmbeddedServer, data: Path, instance: str = "test") -> AsyncIterator[Supervised]:
    """The processor, supervised as in production, ready when this yields and stopped after."""
    supervised = supervised_processor(attach, server, data, instance)
    task = asyncio.create_task(supervised.keep(), name=instance)
    await until(lambda: not supervised.waiting_for(), f"{instance} is ready", 10)
    try:
        yield supervised
    finally:
        await supervised.stop(task, 4.0)


def event(
    event_type: str = "run.started", *, tenant: str | dict[str, Any] = "acme", agent: str = "a1", **changes: Any
) -> dict[str, Any]:
    """A valid event as a producer would write it; ``changes`` replace or (None) remove top-level fields."""
    made: dict[str, Any] = {
        "event_version": "v1",
        "event_id": str(uuid4()),
        "event_type": event_type,
        "occurred_at": datetime.now(UTC).isoformat(),
        "tenant": tenant if isinstance(tenant, dict) else {"tenant_id": tenant},
        "run": {"agent_id": agent, "run_id": "r1"},
    }
    if event_type.startswith("model_call."):
        made["model_call"] = {"model_call_id": "mc1", "provider": "openai", "model": "gpt-4o-mini"}
        made["resource_usage"] = {"input_tokens": 1000, "output_tokens": 100}
    if event_type.endswith(".failed"):
        made["error"] = {"type": "Timeout", "message": "no answer"}
    made |= changes
    return {key: value for key, value in made.items() if value is not None}


def subject_of(made: dict[str, Any]) -> str:
    """Where ``made`` belongs."""
    return f"telemetry.{made['tenant']['tenant_id']}.{made['run']['agent_id']}.{KIND_OF[made['event_type']]}"


async def send(client: Client, *events: dict[str, Any]) -> None:
    """Publishes each event alone, with acknowledgement."""
    for made in events:
        await publish(client, subject_of(made), orjson.dumps(made))


async def send_batch(client: Client, tenant: str, *events: dict[str, Any], gateway: str = "gateway") -> int:
    """Publishes events together as NDJSON."""
    data = b"\n".join(map(orjson.dumps, events))
    return await publish(client, f"telemetry.{tenant}.{gateway}.batch", data, headers={CONTENT_TYPE: NDJSON})


async def messages(client: Client, stream: str, subject: str) -> list[Received]:
    """Every message now in ``stream`` under ``subject``."""
    state = (await client.jsm().stream_info(stream, subjects_filter=subject)).state
    wanted = sum((state.subjects or {}).values())
    reader = OrderedReader(client, Source(stream, (subject,)))
    found: list[Received] = []
    while len(found) < wanted:
        found += await reader.fetch(1000, 5)
    await reader.close()
    return found


async def accepted(client: Client) -> list[AcceptedEvent]:
    """Every event in EVENTS, in order."""
    return [
        AcceptedEvent.model_validate_json(line) for m in await messages(client, "EVENTS", "events.>") for line in lines(m.data)
    ]


async def dead(client: Client) -> list[DeadLetter]:
    """Every dead letter."""
    return [DeadLetter.model_validate_json(m.data) for m in await messages(client, "EVENTS", "dead.>")]


async def ledger(client: Client) -> list[LedgerEntry]:
    """Every ledger entry, in order."""
    return [LedgerEntry.model_validate_json(line) for m in await messages(client, "LEDGER", "ledger.>") for line in lines(m.data)]


async def records(client: Client, processor: str = "validate") -> list[Coverage]:
    """Every coverage record."""
    stream = "EVENTS" if processor == "validate" else "LEDGER"
    found = await messages(client, stream, f"covered.{processor}.0")
    return [Coverage.model_validate_json(m.data) for m in found]


async def drained(client: Client, within_s: float = 15.0) -> None:
    """Waits until validate has covered and acknowledged all telemetry."""

    async def empty() -> bool:
        return (await client.jsm().stream_info("TELEMETRY")).state.messages == 0

    await until(empty, "TELEMETRY is empty", within_s)


def adds_up(found: list[Coverage]) -> None:
    """The invariant of every sequence of coverage records."""
    expected = 1
    for record in found:
        assert record.first_sequence == expected, record
        assert record.last_sequence - record.first_sequence + 1 == record.messages + record.missing, record
        assert record.received == record.valid + record.dead + record.duplicates, record
        assert sum(record.valid_by_kind.values()) == record.valid, record
        expected = record.last_sequence + 1


def ids(events: list[AcceptedEvent]) -> list[str]:
    """Their event ids."""
    return [str(one.event_id) for one in events]
