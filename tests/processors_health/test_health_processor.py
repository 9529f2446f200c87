"""The health processor against a real server."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from nats.aio.client import Client

from processors.health.app import HealthProcessor
from processors.health.settings import HealthSettings
from processors.runner import ProcessorContext
from schemas.events import Event
from schemas.state import Observation
from streams import topology
from streams.connect import connect
from streams.covering import CoveredWriter
from streams.embedded import EmbeddedServer
from streams.kv import TypedBucket
from tests.conftest import stream_messages, until
from tests.processors_health.telling import beat, publish, publish_covered, started, stopped, traffic
from tests.turns import Mine


def now(seconds: float = 0) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


@asynccontextmanager
async def health(server: EmbeddedServer) -> AsyncIterator[HealthProcessor]:
    """The processor at work; stopped in the end as the runner does."""
    context = ProcessorContext(Path(), "test", lambda name: connect(server.settings(), name))
    processor = HealthProcessor(context, HealthSettings(), Mine())
    await processor.start()
    task = asyncio.create_task(processor.run())
    try:
        yield processor
    finally:
        await processor.stop()
        await task


def shows(
    bucket: TypedBucket[Observation], health: str, status: str = "running", agent: str = "a"
) -> Callable[[], Awaitable[bool]]:
    async def predicate() -> bool:
        found = await bucket.get(f"acme.{agent}")
        return found is not None and found.value is not None and (found.value.health, found.value.status) == (health, status)

    return predicate


async def changes(client: Client) -> list[str]:
    """Every ``agent.status_changed`` told on telemetry, once, as validate would see it."""
    state = (await client.jsm().stream_info(topology.TELEMETRY)).state
    found: dict[str, str] = {}
    for sequence in range(state.first_seq, state.last_seq + 1):
        message = await client.jsm().get_msg(topology.TELEMETRY, seq=sequence)
        assert message.data
        event = Event.model_validate_json(message.data)
        if event.event_type == "agent.status_changed":
            assert event.health
            assert event.agent
            found[str(event.event_id)] = f"{event.health.status}/{event.agent.status}"
    return list(found.values())


async def test_a_heartbeat_becomes_an_observation_and_each_change_one_event(server: EmbeddedServer, client: Client) -> None:
    bucket = await TypedBucket.open(client, topology.OBSERVATIONS, Observation)
    async with health(server):
        await publish(client, started(now()), beat(now(), metrics=traffic(0.0, 120)))
        await until(shows(bucket, "HEALTHY"), "healthy")
        found = await bucket.get("acme.a")
        assert found is not None
        assert found.value is not None
        assert found.value.metrics.latency_ms == 120
        await publish(client, beat(now(), metrics=traffic(0.0, 2600)))

        async def numbers() -> bool:
            found = await bucket.get("acme.a")
            return found is not None and found.value is not None and found.value.metrics.latency_ms == 2600

        await until(numbers, "the new latency is shown", 1)
        await publish(client, stopped(now(), signal="SIGKILL"))
        await until(shows(bucket, "UNHEALTHY", "error"), "unhealthy")
    assert await changes(client) == ["RECOVERING/starting", "HEALTHY/running", "UNHEALTHY/error"]


async def test_a_batch_is_judged_in_the_order_in_which_it_was_told(server: EmbeddedServer, client: Client) -> None:
    """Heartbeats stand before the stop in the batch, though the last of them came after it."""
    bucket = await TypedBucket.open(client, topology.OBSERVATIONS, Observation)
    writer = CoveredWriter(client, topology.EVENTS, "validate")
    await writer.resume()
    first, second, third = beat(now(-2)), stopped(now(-1), exit_code=0), beat(now(), "UNHEALTHY")
    async with health(server):
        await publish_covered(writer, [first, third], [second])
        await until(shows(bucket, "HEALTHY", "stopped"), "stopped, and never unhealthy")
    assert await changes(client) == ["HEALTHY/running", "HEALTHY/stopped"]


async def test_three_missed_heartbeats_are_noticed_and_only_of_the_agent_that_is_silent(
    server: EmbeddedServer, client: Client
) -> None:
    bucket = await TypedBucket.open(client, topology.OBSERVATIONS, Observation)
    async with health(server):
        await publish(client, beat(now(), interval_s=0.3), beat(now(), agent_id="b", interval_s=60))
        await until(shows(bucket, "HEALTHY", agent="b"), "both are healthy")

        async def both_told() -> bool:
            return await stream_messages(client, topology.TELEMETRY) == 2

        await until(both_told, "both are told")
        # As validate does once it has covered what stands there.
        await client.jsm().purge_stream(topology.TELEMETRY)
        await until(shows(bucket, "UNHEALTHY", "inactive"), "absent", 5)
        await until(shows(bucket, "HEALTHY", agent="b"), "the other is healthy", 1)
        await publish(client, beat(now(), interval_s=60), beat(now(), interval_s=60))
        await until(shows(bucket, "HEALTHY"), "back")


async def test_silence_is_not_judged_while_validate_is_behind(server: EmbeddedServer, client: Client) -> None:
    """Heartbeats wait in TELEMETRY: that EVENTS is silent says nothing about the agents."""
    bucket = await TypedBucket.open(client, topology.OBSERVATIONS, Observation)
    await client.jetstream().publish("telemetry.acme.a.heartbeat", b"waits")
    async with health(server):
        await publish(client, beat(now(), interval_s=0.2))
        await until(shows(bucket, "HEALTHY"), "healthy")
        began = asyncio.get_running_loop().time()
        await until(lambda: asyncio.get_running_loop().time() - began > 4, "a long time", 5)
        assert await shows(bucket, "HEALTHY")()
        await client.jsm().purge_stream(topology.TELEMETRY)
        await until(shows(bucket, "UNHEALTHY", "inactive"), "now it is judged", 6)


async def test_a_server_that_was_away_makes_nobody_unhealthy(server: EmbeddedServer, client: Client) -> None:
    bucket = await TypedBucket.open(client, topology.OBSERVATIONS, Observation)
    async with health(server) as processor:
        await publish(client, beat(now(), interval_s=0.5))
        await until(shows(bucket, "HEALTHY"), "healthy")
        await server.kill()
        began = asyncio.get_running_loop().time()
        await until(lambda: asyncio.get_running_loop().time() - began > 2.5, "an outage longer than three heartbeats", 4)
        await server.start()
        await until(lambda: client.is_connected, "reconnected")
        await publish(client, beat(now(), interval_s=0.5))
        assert await shows(bucket, "HEALTHY")()
        await until(lambda: not processor.waiting_for(), "ready")
        await publish(client, beat(now(), "UNHEALTHY", interval_s=30))
        await until(shows(bucket, "UNHEALTHY"), "it goes on judging", 5)
    assert await changes(client) == ["HEALTHY/running", "UNHEALTHY/running"]


async def test_after_a_restart_it_knows_what_it_knew_and_tells_nothing_twice(server: EmbeddedServer, client: Client) -> None:
    bucket = await TypedBucket.open(client, topology.OBSERVATIONS, Observation)
    async with health(server):
        await publish(client, beat(now(), interval_s=60), beat(now(), "UNHEALTHY", interval_s=60))
        await until(shows(bucket, "UNHEALTHY"), "unhealthy")
    before = await changes(client)
    await bucket.delete("acme.a")
    async with health(server):
        await until(shows(bucket, "UNHEALTHY"), "the observation is there again")
        await publish(client, beat(now(), interval_s=60), beat(now(), interval_s=60))
        await until(shows(bucket, "HEALTHY"), "two good heartbeats later")
    assert await changes(client) == [*before, "RECOVERING/running", "HEALTHY/running"]


async def test_what_cannot_be_read_stops_nobody(server: EmbeddedServer, client: Client) -> None:
    bucket = await TypedBucket.open(client, topology.OBSERVATIONS, Observation)
    async with health(server):
        await client.jetstream().publish("events.acme.heartbeat", b"{not json\n{}")
        await publish(client, beat(now()))
        await until(shows(bucket, "HEALTHY"), "healthy")
