"""Faults asked for over NATS, and ended by the sidecar alone."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
from nats.aio.client import Client

from schemas.sections import Fault
from schemas.state import FaultSet
from streams.embedded import EmbeddedServer
from streams.kv import TypedBucket, agent_key
from streams.topology import FAULTS
from tests.conftest import until
from tests.sidecar.running import HTTP_PROBE, Sidecar, Telemetry


def fault(kind: Any, seconds: float = 30, **more: Any) -> Fault:
    return Fault(fault_id=f"f-{kind}", kind=kind, until=datetime.now(UTC) + timedelta(seconds=seconds), **more)


async def ask(client: Client, *faults: Fault) -> None:
    bucket = await TypedBucket.open(client, FAULTS, FaultSet)
    wanted = FaultSet(agent_id="a1", tenant_id="acme", faults=faults, updated_at=datetime.now(UTC))
    await bucket.put(agent_key("acme", "a1"), wanted)


async def test_latency_is_injected_seen_and_cleared(sidecar: Sidecar, client: Client, telemetry: Telemetry) -> None:
    await sidecar.start("--probe", HTTP_PROBE, "--heartbeat", "60")
    await until(sidecar.answers, "the agent answers")
    await ask(client, fault("latency", latency_ms=1000))
    injected = await telemetry.find("fault.injected", within_s=2, fault__kind="latency")
    assert injected["fault"]["latency_ms"] == 1000
    await telemetry.find("agent.heartbeat", within_s=2, health__active_faults=["latency"])
    began_at = time.monotonic()
    assert (await sidecar.get())[0] == 200
    assert time.monotonic() - began_at >= 1.0
    await ask(client)
    cleared = await telemetry.find("fault.cleared", within_s=2)
    assert cleared["attributes"] == {"because": "cleared"}
    began_at = time.monotonic()
    assert (await sidecar.get())[0] == 200
    assert time.monotonic() - began_at < 1.0


async def test_a_fault_ends_at_its_deadline_while_nats_is_dead(
    sidecar: Sidecar, server: EmbeddedServer, client: Client, telemetry: Telemetry
) -> None:
    await sidecar.start("--probe", HTTP_PROBE)
    await until(sidecar.answers, "the agent answers")
    await ask(client, fault("error", 1.5), fault("hang", 1.5))
    await telemetry.find("fault.injected", fault__kind="hang")
    await server.kill()
    assert (await sidecar.get())[0] == 500
    assert sidecar.agent.status() == psutil.STATUS_STOPPED
    await until(sidecar.answers, "the faults ended", 5)
    assert sidecar.agent.status() != psutil.STATUS_STOPPED
    await server.start()
    await until(lambda: client.is_connected, "reconnected")
    for kind in ("error", "hang"):
        cleared = await telemetry.find("fault.cleared", fault__kind=kind)
        assert cleared["attributes"] == {"because": "deadline"}


async def test_a_fault_asked_for_while_nats_restarted_takes_effect(
    sidecar: Sidecar, server: EmbeddedServer, client: Client
) -> None:
    await sidecar.start()
    await until(sidecar.answers, "the agent answers")
    await server.kill()
    await server.start()
    await until(lambda: client.is_connected, "reconnected")
    await ask(client, fault("error", status_code=507))

    async def fails() -> bool:
        return (await sidecar.get())[0] == 507

    await until(fails, "the fault is in force", 15)


async def test_a_crash_happens_once_even_if_the_sidecar_restarts_for_it(
    sidecar: Sidecar, client: Client, telemetry: Telemetry
) -> None:
    await sidecar.start()
    await until(sidecar.answers, "the agent answers")
    await ask(client, fault("crash"))
    stopped = await telemetry.find("agent.stopped")
    assert stopped["agent"]["signal"] == "SIGKILL"
    cleared = await telemetry.find("fault.cleared")
    assert cleared["attributes"] == {"because": "done"}
    await sidecar.stop()
    await ask(client, fault("crash"), fault("error", status_code=599))
    await sidecar.start()

    async def in_force() -> bool:
        return (await sidecar.get())[0] == 599

    await until(in_force, "the other fault is in force")
    assert sidecar.agent.is_running()
    assert (await sidecar.get())[0] == 599
    await telemetry.find("fault.injected", fault__kind="error")
    told = [event for event in await telemetry.read() if event["event_type"] == "fault.injected"]
    assert [event["fault"]["kind"] for event in told] == ["crash", "error"]


async def test_a_process_left_frozen_by_a_killed_sidecar_is_thawed_by_the_next(
    sidecar: Sidecar, client: Client, telemetry: Telemetry
) -> None:
    """A process that is not the sidecar's own outlives it: its hang must not outlive the deadline for that."""
    other = await asyncio.create_subprocess_exec("sleep", "600")
    options = ("--url", "http://127.0.0.1:9", "--pid", str(other.pid), "--probe", "process")
    try:
        await sidecar.start(*options)
        await ask(client, fault("hang"))
        await until(lambda: psutil.Process(other.pid).status() == psutil.STATUS_STOPPED, "frozen")
        await telemetry.find("fault.injected")
        await sidecar.kill()
        await ask(client)
        await sidecar.start(*options)
        await until(lambda: psutil.Process(other.pid).status() != psutil.STATUS_STOPPED, "thawed")
    finally:
        other.kill()
        await other.wait()


async def test_a_restarted_sidecar_takes_its_faults_up_again_but_no_expired_one(
    sidecar: Sidecar, client: Client, telemetry: Telemetry
) -> None:
    await ask(client, fault("latency", -5, latency_ms=60_000), fault("error", status_code=501))
    await sidecar.start()

    async def in_force() -> bool:
        return (await sidecar.get())[0] == 501

    await until(in_force, "the fault is in force")
    await sidecar.kill()
    await sidecar.start()
    await until(in_force, "the fault is in force again")
    await telemetry.find("fault.injected")
    told = [event for event in await telemetry.read() if event["event_type"] == "fault.injected"]
    assert {event["fault"]["kind"] for event in told} == {"error"}
    assert all(event == told[0] for event in told)


async def test_a_stopped_agent_can_be_told_to_end(sidecar: Sidecar, client: Client, telemetry: Telemetry) -> None:
    """SIGTERM reaches a hung agent because it is let go first."""
    await sidecar.start("--stop-timeout", "5")
    await until(sidecar.answers, "the agent answers")
    await ask(client, fault("hang"))
    await telemetry.find("fault.injected")
    await sidecar.stop()
    stopped = await telemetry.find("agent.stopped")
    assert stopped["agent"].get("signal") != "SIGKILL"
