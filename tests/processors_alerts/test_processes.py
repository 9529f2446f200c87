"""The processors as processes: from a heartbeat to an alert, and through ``kill -9``."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import httpx
from nats.aio.client import Client

from processors.alerts.evaluating import NAME
from schemas.events import Event
from schemas.sections import Health, HealthStatus, Metrics, Run, Tenant
from service.ports import free_port
from streams import topology
from streams.embedded import EmbeddedServer
from streams.publish import publish_event
from tests.conftest import until
from tests.processors_alerts.test_alerts_processor import changes, told

ROOT = Path(__file__).parents[2]


def environment(server: EmbeddedServer, **more: str) -> dict[str, str]:
    settings = server.settings()
    assert settings.user
    assert settings.password
    login = {"NATS_URL": settings.url, "NATS_USER": settings.user, "NATS_PASSWORD": settings.password.get_secret_value()}
    return {**os.environ, **login, "AGENTOPS_LOG_FORMAT": "json", **more}


@asynccontextmanager
async def processors(server: EmbeddedServer, data: Path, *names: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The named processors in one process, ready; killed in the end."""
    port = free_port()
    arguments = ("-m", "processors", *names, "--data", str(data), "--health-port", str(port))
    with (data / "processors.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, cwd=ROOT, env=environment(server), stdout=log, stderr=log
        )
    try:
        async with httpx.AsyncClient(trust_env=False) as http:

            async def ready() -> bool:
                assert process.returncode is None, (data / "processors.log").read_text()[-3000:]
                try:
                    return (await http.get(f"http://127.0.0.1:{port}/readyz")).is_success
                except httpx.HTTPError:
                    return False

            await until(ready, "processors are ready", 20)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def heartbeat(status: HealthStatus = "HEALTHY") -> Event:
    return Event(
        event_version="v1", event_id=uuid4(), event_type="agent.heartbeat", occurred_at=datetime.now(UTC),
        tenant=Tenant(tenant_id="acme"), run=Run(agent_id="a"),
        health=Health(status=status, interval_s=60, reason=None if status == "HEALTHY" else "probe http fails"),
        metrics=Metrics(latency_ms=120.0, error_rate=0.0, requests=10), attributes={},
    )  # fmt: skip


def notified(data: Path) -> list[str]:
    """The changes the log channel told, in order."""
    entries = [json.loads(line) for line in (data / "processors.log").read_text().splitlines() if line.startswith("{")]
    return [entry["change_id"] for entry in entries if entry["event"] == "alert.notified"]


async def test_through_kill_9_every_alert_is_told_once(server: EmbeddedServer, client: Client, tmp_path: Path) -> None:
    names = ("validate", "health", NAME, "notify")
    async with processors(server, tmp_path, *names) as process:
        heard = await client.subscribe("alerts.>")
        await publish_event(client, heartbeat())
        began = time.perf_counter()
        await publish_event(client, heartbeat("UNHEALTHY"))
        await heard.next_msg(timeout=5)
        took = time.perf_counter() - began
        assert took < 1.0, f"from the heartbeat to the alert took {took:.3f} s"
        process.kill()
        await process.wait()
    # While nobody judges: it stays unhealthy, recovers, and falls ill again.
    statuses: tuple[HealthStatus, ...] = ("UNHEALTHY", "HEALTHY", "HEALTHY", "UNHEALTHY")
    for status in statuses:
        await publish_event(client, heartbeat(status))
    once = [("agent_unhealthy", "firing"), ("agent_unhealthy", "resolved"), ("agent_unhealthy", "firing")]

    async def all_told() -> bool:
        return await told(client) == once

    async with processors(server, tmp_path, *names) as process:
        await until(all_told, "one end and one new beginning")
        process.kill()
        await process.wait()
    async with processors(server, tmp_path, *names) as process:
        await publish_event(client, heartbeat())
        await publish_event(client, heartbeat())
        once.append(("agent_unhealthy", "resolved"))
        await until(all_told, "the second end, and nothing twice")
        await until(lambda: len(set(notified(tmp_path))) == 4, "people know of all four")
        process.terminate()
        async with asyncio.timeout(5):
            assert await process.wait() == 0
    found = await changes(client)
    assert [found[0].alert_id == found[1].alert_id, found[1].alert_id == found[2].alert_id] == [True, False]
    # What had been told while its acknowledgement was on its way may be told again after kill -9, but never out of order.
    assert list(dict.fromkeys(notified(tmp_path))) == [change.change_id for change in found]
    assert (await client.jsm().stream_info(topology.ALERTS)).state.messages == 4


async def test_rules_that_cannot_be_used_end_the_process_with_what_is_wrong(server: EmbeddedServer, tmp_path: Path) -> None:
    rules = tmp_path / "mine.yaml"
    rules.write_text("rules: [{name: slow, metric: latency, threshold: 1, severity: warning}]")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "processors", NAME, "--data", str(tmp_path), cwd=ROOT,
        env=environment(server, AGENTOPS_RULES=str(rules)), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(20):
        _, errors = await process.communicate()
    assert process.returncode == 1
    assert "mine.yaml cannot be used" in errors.decode()
    assert "rule 'slow': metric:" in errors.decode()
    assert "Traceback" not in errors.decode()
