"""What the door accepted arrives in NATS: once, in order, whoever is killed."""

import asyncio
import time
from typing import Any
from uuid import uuid4

from nats.aio.client import Client

from streams.connect import connect
from streams.embedded import EmbeddedServer
from tests.conftest import until
from tests.sidecar.running import Sidecar, Telemetry

SLEEP = ["sleep", "600"]


def event(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "event_version": "v1",
        "event_id": str(uuid4()),
        "event_type": "run.started",
        "occurred_at": "2026-11-20T10:00:00Z",
        "tenant": {"tenant_id": "acme"},
        "run": {"agent_id": "a1", "run_id": str(number)},
        **changes,
    }


async def runs(telemetry: Telemetry) -> list[int]:
    return [int(event["run"]["run_id"]) for event in await telemetry.read() if event["event_type"] == "run.started"]


async def test_an_accepted_event_is_in_nats_at_once(sidecar: Sidecar, client: Client, telemetry: Telemetry) -> None:
    await sidecar.start("--heartbeat", "60", command=SLEEP)
    await telemetry.find("agent.heartbeat", health__status="HEALTHY")
    arrivals = await client.subscribe("telemetry.acme.a1.run")
    await client.flush()
    took = []
    for number in range(1, 60):
        began_at = time.perf_counter()
        assert await sidecar.post(event(number)) == 202
        await arrivals.next_msg(5)
        took.append(time.perf_counter() - began_at)
    # At once, not with the next beat or sweep: how fast exactly is the benchmark's business.
    assert sorted(took)[len(took) // 2] < 0.1


async def test_events_outlive_nats_and_the_sidecar(
    server: EmbeddedServer, sidecar: Sidecar, client: Client, telemetry: Telemetry
) -> None:
    """NATS is away before the sidecar starts; the sidecar is killed; all of it arrives once and in order."""
    await client.close()
    await server.kill()
    await sidecar.start(command=SLEEP)
    for number in range(200):
        assert await sidecar.post(event(number)) == 202
    await sidecar.kill()
    await sidecar.start(command=SLEEP)
    for number in range(200, 300, 10):
        assert await sidecar.post(*[event(each) for each in range(number, number + 10)]) == 202
    await server.start()
    again = await connect(server.settings(), "test")
    arrived = Telemetry(again)

    async def complete() -> bool:
        return len(await runs(arrived)) >= 300

    await until(complete, "everything arrived", 15)
    assert await runs(arrived) == list(range(300))
    assert arrived.events[0]["event_type"] == "agent.started"
    await again.close()


async def test_killing_the_sidecar_or_nats_in_mid_stream_neither_loses_nor_repeats(
    server: EmbeddedServer, sidecar: Sidecar, client: Client, telemetry: Telemetry
) -> None:
    sent = 0
    for round_number in range(3):
        await sidecar.start(command=SLEEP)
        for _ in range(40):
            if await sidecar.post(*[event(each) for each in range(sent, sent + 25)]) == 202:
                sent += 25
            if round_number == 1 and sent == 1500:
                await server.kill()
                await server.start()
        await sidecar.kill()
    await sidecar.start(command=SLEEP)
    await until(lambda: client.is_connected, "reconnected")

    async def complete() -> bool:
        return len(await runs(telemetry)) >= sent

    await until(complete, "everything arrived", 20)
    assert await runs(telemetry) == list(range(sent))


async def test_a_full_spool_is_told_to_the_agent_and_empties_again(
    server: EmbeddedServer, sidecar: Sidecar, client: Client
) -> None:
    await sidecar.start(command=SLEEP, AGENTOPS_SIDECAR_SPOOL_MAX_BYTES="2000000")
    await server.kill()
    big = {"attributes": {f"text-{number:03d}": "x" * 4_000 for number in range(100)}}
    statuses = [await sidecar.post(event(number, **big)) for number in range(8)]
    accepted = statuses.count(202)
    assert statuses == [202] * accepted + [503] * (8 - accepted)
    assert 3 <= accepted <= 5

    async def dropped() -> bool:
        async with sidecar.http.get(f"{sidecar.door}/metrics") as response:
            return 'agentops_spool_dropped_total{kind="heartbeat"}' in await response.text()

    await until(dropped, "heartbeats are dropped and counted")
    await server.start()

    async def room() -> bool:
        return await sidecar.post(event(99)) == 202

    await until(room, "there is room again")
    await until(lambda: client.is_connected, "reconnected")


async def test_many_agents_events_at_once_leave_as_micro_batches(sidecar: Sidecar, client: Client, telemetry: Telemetry) -> None:
    await sidecar.start(command=SLEEP)
    posts = [sidecar.post(*[event(number * 50 + each) for each in range(50)]) for number in range(40)]
    assert set(await asyncio.gather(*posts)) == {202}

    async def complete() -> bool:
        return len(await runs(telemetry)) == 2000

    await until(complete, "everything arrived")
    state = (await client.jsm().stream_info("TELEMETRY")).state
    assert state.messages < 100
