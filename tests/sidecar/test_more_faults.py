"""Bodies slowed and cut, connections reset, load beside the agent, heartbeats withheld: each ends by itself."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import psutil
from nats.aio.client import Client

from schemas.sections import Fault
from schemas.state import AskedFault, FaultSet
from streams.embedded import EmbeddedServer
from streams.kv import TypedBucket, agent_key
from streams.topology import FAULTS
from tests.conftest import until
from tests.sidecar.running import HTTP_PROBE, Sidecar, Telemetry


def fault(kind: Any, seconds: float = 30, **more: Any) -> AskedFault:
    until_ = datetime.now(UTC) + timedelta(seconds=seconds)
    return AskedFault(fault_id=f"f-{kind}", kind=kind, until=until_, **more)


async def ask(client: Client, *faults: Fault) -> None:
    bucket = await TypedBucket.open(client, FAULTS, FaultSet)
    wanted = FaultSet(agent_id="a1", tenant_id="acme", faults=faults, updated_at=datetime.now(UTC))
    await bucket.put(agent_key("acme", "a1"), wanted)


async def broken(sidecar: Sidecar) -> str:
    """How a request through the proxy breaks; empty where it is answered."""
    try:
        await sidecar.get("/environment")
    except aiohttp.ClientError as error:
        return type(error).__name__
    return ""


async def test_an_answer_breaks_off_and_a_connection_is_reset_until_the_fault_is_taken_back(
    sidecar: Sidecar, client: Client, telemetry: Telemetry
) -> None:
    await sidecar.start()
    await until(sidecar.answers, "the agent answers")
    for kind in ("truncate", "reset"):
        await ask(client, fault(kind, intensity=20 if kind == "truncate" else None))

        async def breaks() -> bool:
            return bool(await broken(sidecar))

        await until(breaks, f"{kind} is in force")
        await ask(client)
        await until(sidecar.answers, "it answers whole again")
    told = await telemetry.find("fault.injected", fault__kind="truncate")
    assert told["attributes"] == {"intensity": 20}


async def test_a_throttled_answer_comes_slowly_and_whole(sidecar: Sidecar, client: Client, telemetry: Telemetry) -> None:
    await sidecar.start()
    await until(sidecar.answers, "the agent answers")
    whole = (await sidecar.get("/environment"))[1]
    await ask(client, fault("throttle", intensity=400))
    await telemetry.find("fault.injected")
    began_at = time.monotonic()
    status, told = await sidecar.get("/environment", timeout_s=60)
    assert (status, told) == (200, whole)
    assert time.monotonic() - began_at > 0.5


def pressing(sidecar: Sidecar) -> list[psutil.Process]:
    assert sidecar.process is not None
    return [child for child in psutil.Process(sidecar.process.pid).children() if "getppid" in " ".join(child.cmdline())]


async def test_pressure_is_processes_that_end_at_the_deadline_while_nats_is_dead(
    sidecar: Sidecar, client: Client, server: EmbeddedServer
) -> None:
    await sidecar.start()
    await until(sidecar.answers, "the agent answers")
    await ask(client, fault("cpu_pressure", 4, intensity=1), fault("memory_pressure", 4, intensity=50))
    await until(lambda: len(pressing(sidecar)) == 2, "two processes press")
    await until(lambda: max((one.memory_info().rss for one in pressing(sidecar)), default=50_000_000) >= 50_000_000, "it is held")
    await server.kill()
    await until(lambda: not pressing(sidecar), "they ended")


async def test_pressure_ends_with_its_sidecar(sidecar: Sidecar, client: Client) -> None:
    await sidecar.start()
    await until(sidecar.answers, "the agent answers")
    await ask(client, fault("cpu_pressure", 60))
    await until(lambda: len(pressing(sidecar)) == 1, "it presses")
    (process,) = pressing(sidecar)
    await sidecar.kill()
    await until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE, "it ended, too")


async def test_no_heartbeat_is_sent_while_they_are_lost_and_the_agent_answers(
    sidecar: Sidecar, client: Client, telemetry: Telemetry
) -> None:
    await sidecar.start("--probe", HTTP_PROBE, "--heartbeat", "0.2")
    await until(sidecar.answers, "the agent answers")
    await telemetry.find("agent.heartbeat")
    await ask(client, fault("heartbeat_loss", 2))
    injected = await telemetry.find("fault.injected")
    assert await sidecar.answers()
    cleared = await telemetry.find("fault.cleared")

    def heard() -> list[dict[str, Any]]:
        return [one for one in telemetry.events if one["event_type"] == "agent.heartbeat"]

    async def again() -> bool:
        await telemetry.read()
        return any(one["occurred_at"] > cleared["occurred_at"] for one in heard())

    await until(again, "it beats again")
    between = [one for one in heard() if injected["occurred_at"] < one["occurred_at"] < cleared["occurred_at"]]
    assert between == []


async def test_a_fault_for_later_comes_into_force_later(sidecar: Sidecar, client: Client, telemetry: Telemetry) -> None:
    await sidecar.start()
    await until(sidecar.answers, "the agent answers")
    begins = datetime.now(UTC) + timedelta(seconds=2)
    await ask(client, fault("error", 20, begins_at=begins, status_code=501), fault("latency", latency_ms=1))
    await telemetry.find("fault.injected", fault__kind="latency")
    told = await telemetry.find("fault.injected", fault__kind="error")
    assert datetime.fromisoformat(told["occurred_at"]) >= begins
    assert (await asyncio.wait_for(sidecar.get(), 10))[0] == 501
