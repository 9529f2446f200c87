"""What the parts we stand on can do alone, in the same run: what no arrangement of them can exceed."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import nats.errors
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig

from benchmarks import workload
from benchmarks.parts.part import Bench, Figures
from processors.aggregate.batches import Batch, compose
from processors.aggregate.settings import AggregateSettings
from processors.aggregate.warehouse import Resources, Warehouse
from processors.validate.judging import Limits, take_apart
from schemas.events import Event
from streams import subjects, topology
from streams.apply import apply
from streams.connect import connect
from streams.embedded import EmbeddedServer
from streams.messages import EVENT_COUNT, Received

_WINDOW: Final = 512
_FETCHED: Final = 500
_PASSES: Final = 3
_ROWS: Final = 10_000
"""In a transaction."""


def validate_json(events: Sequence[workload.Made]) -> float:
    """Events a second that pydantic makes of JSON, on one core: the best of some passes, because it is a limit."""
    read, took = Event.model_validate_json, []
    for _ in range(_PASSES):
        began = time.perf_counter()
        for event in events:
            read(event.data)
        took.append(time.perf_counter() - began)
    return len(events) / min(took)


async def publish(client: Client, messages: Sequence[workload.Message]) -> float:
    """Messages a second that nats-py publishes with acknowledgements."""
    js = client.jetstream(publish_async_max_pending=_WINDOW)
    began = time.perf_counter()
    for message in messages:
        await js.publish_async(message.subject, message.data, headers=message.headers, wait_stall=30)
    await js.publish_async_completed()
    return len(messages) / (time.perf_counter() - began)


async def fetch(client: Client, messages: int) -> float:
    """Messages a second that nats-py's pull subscription fetches, without acknowledging them."""
    js = client.jetstream()
    config = ConsumerConfig(ack_policy=AckPolicy.NONE)
    subscription = await js.pull_subscribe(subjects.ALL_TELEMETRY, "limits", topology.TELEMETRY, config=config)
    fetched, began = 0, time.perf_counter()
    while fetched < messages:
        fetched += len(await subscription.fetch(_FETCHED, timeout=5))
    took = time.perf_counter() - began
    with suppress(nats.errors.Error):
        await subscription.unsubscribe()
    return fetched / took


def validated(events: Sequence[workload.Made], at_ns: int) -> list[Received]:
    """What validate would write to EVENTS: one message for each tenant and kind."""
    lines: dict[str, list[bytes]] = {}
    for number, made in enumerate(workload.batches(list(events))):
        message = Received(made.subject, made.data, number + 1, number + 1, at_ns, 0, "", made.headers)
        for candidate in take_apart(message, Limits()).candidates:
            lines.setdefault(subjects.events(made.subject.split(".")[1], candidate.kind), []).append(candidate.line)
    return [
        Received(subject, b"\n".join(several), number + 1, number + 1, at_ns, 0, "", {EVENT_COUNT: str(len(several))})
        for number, (subject, several) in enumerate(lines.items())
    ]


def duckdb_rows(path: Path, batches: Sequence[Batch]) -> float:
    """Rows a second that DuckDB takes, typed and ready, in transactions, with what it has in the aggregate."""
    settings, now = AggregateSettings(), datetime.now(UTC)
    warehouse = Warehouse.open(path, now, Resources(settings.threads, settings.memory, settings.wal))
    try:
        began = time.perf_counter()
        for batch in batches:
            warehouse.apply(batch, {topology.EVENTS: now}, now)
        took = time.perf_counter() - began
    finally:
        warehouse.close()
    return sum(batch.rows for batch in batches) / took


def _composed(events: Sequence[workload.Made]) -> list[Batch]:
    now = time.time_ns()
    return [compose({topology.EVENTS: validated(events[start : start + _ROWS], now)}) for start in range(0, len(events), _ROWS)]


async def run(bench: Bench) -> Figures:
    """One after the other; nothing else runs."""
    events = list(workload.generate(bench.form.limit_events, seed=70))
    bench.say("pydantic, validate_json")
    validating = await asyncio.to_thread(validate_json, events)
    bench.say("nats-py, publish and fetch")
    server = EmbeddedServer(bench.directory / "nats", dies_with_parent=True)
    await server.start()
    try:
        client = await connect(server.settings(), "benchmark")
        await apply(client)
        messages = workload.singles(events)
        publishing = await publish(client, messages)
        fetching = await fetch(client, len(messages))
        await client.close()
    finally:
        await server.stop()
    bench.say("DuckDB, insert")
    inserting = await asyncio.to_thread(lambda: duckdb_rows(bench.directory / "limits.duckdb", _composed(events)))
    return {
        "limits": {
            "validate_json_per_s": validating,
            "publish_per_s": publishing,
            "fetch_per_s": fetching,
            "duckdb_rows_per_s": inserting,
            "event_bytes": sum(len(event.data) for event in events) / len(events),
        }
    }
