"""Notifications against a real server and a real HTTP endpoint."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import structlog.testing
from aiohttp import web
from nats.aio.client import Client

from processors.notify.app import attach
from processors.notify.channels import WebhookChannel
from processors.notify.delivery import Away
from processors.runner import ProcessorContext
from schemas.alerts import AlertChange
from service.instruments import REGISTRY
from streams import subjects, topology
from streams.broker import broker
from streams.connect import connect
from streams.embedded import EmbeddedServer
from streams.publish import publish
from tests.conftest import until


def alert(state: Any = "firing", alert_id: str = "a1", rule: str = "slow") -> AlertChange:
    now = datetime.now(UTC)
    return AlertChange(
        change_id=uuid4().hex, alert_id=alert_id, rule=rule, severity="critical", state=state, tenant_id="acme", agent_id="a",
        metric="latency_ms", value=2500.0, threshold=2000.0, started_at=now, at=now, summary="a takes 2,500 ms",
    )  # fmt: skip


async def tell(client: Client, *changes: AlertChange) -> None:
    for change in changes:
        subject = subjects.alerts(change.tenant_id, change.severity, change.rule)
        await publish(client, subject, change.model_dump_json(exclude_none=True).encode(), message_id=change.change_id)


@dataclass
class Endpoint:
    """A webhook that answers as it is told: ``answers`` first, then 200."""

    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    received: list[dict[str, Any]] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)
    hang: bool = False
    url: str = ""

    async def handle(self, request: web.Request) -> web.Response:
        if self.hang:
            await asyncio.sleep(30)
        body = await request.json()
        self.received.append(body)
        status, headers = self.answers.pop(0) if self.answers else (200, {})
        if status == 200:
            self.accepted.append(body["change_id"])
        return web.Response(status=status, headers=headers)


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    hook = Endpoint()
    app = web.Application()
    app.router.add_post("/{path:.*}", hook.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    hook.url = f"http://127.0.0.1:{runner.addresses[0][1]}/services/very-secret"
    yield hook
    await runner.cleanup()


@asynccontextmanager
async def notify(server: EmbeddedServer) -> AsyncIterator[None]:
    """The processor with its broker; stopped as the runner does."""
    nats_broker = broker(server.settings(), "test")
    processor = attach(nats_broker, ProcessorContext(Path(), "test", lambda name: connect(server.settings(), name)))
    await nats_broker.start()
    await processor.start()
    task = asyncio.create_task(processor.run())
    try:
        await until(lambda: not processor.waiting_for(), "it is at work")
        yield
    finally:
        await processor.stop()
        await task
        await nats_broker.stop()


def notified(logs: list[Any], event: str = "alert.notified") -> Callable[[], list[str]]:
    return lambda: [entry["change_id"] for entry in logs if entry["event"] == event]


def counted(channel: str, outcome: str) -> float:
    return REGISTRY.get_sample_value("agentops_notifications_total", {"channel": channel, "outcome": outcome}) or 0.0


@pytest.fixture
def webhook(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> Endpoint:
    monkeypatch.setenv("AGENTOPS_WEBHOOK_URLS", endpoint.url)
    monkeypatch.setenv("AGENTOPS_WEBHOOK_TIMEOUT_S", "1")
    return endpoint


async def test_each_change_reaches_every_channel_once_and_in_order(
    server: EmbeddedServer, client: Client, webhook: Endpoint
) -> None:
    changes = [alert("firing"), alert("acknowledged"), alert("resolved")]
    with structlog.testing.capture_logs() as logs:
        async with notify(server):
            await tell(client, *changes)
            await until(lambda: len(webhook.accepted) == 3, "the webhook has all three")
            await until(lambda: len(notified(logs)()) == 3, "the log has all three")
    expected = [change.change_id for change in changes]
    assert webhook.accepted == expected
    assert notified(logs)() == expected
    assert webhook.received[0]["text"] == "[CRITICAL] firing: slow (acme/a) a takes 2,500 ms"
    assert webhook.received[0]["threshold"] == 2000
    assert "very-secret" not in str(logs)


async def test_a_failing_webhook_gets_it_again_and_nothing_overtakes_it(
    server: EmbeddedServer, client: Client, webhook: Endpoint
) -> None:
    webhook.answers = [(500, {}), (429, {"Retry-After": "1"})]
    first, second = alert("firing"), alert("resolved")
    with structlog.testing.capture_logs() as logs:
        async with notify(server):
            await tell(client, first, second)
            await until(lambda: len(notified(logs)()) == 2, "the log channel did not wait", 2)
            assert webhook.accepted == []
            await until(lambda: len(webhook.accepted) == 2, "both arrived", 10)
    assert [body["change_id"] for body in webhook.received] == [first.change_id] * 3 + [second.change_id]
    assert [entry["attempt"] for entry in logs if entry["event"] == "notification.again"] == [1, 2]
    assert "very-secret" not in str(logs)


async def test_what_a_webhook_refuses_is_not_tried_again_but_seen(
    server: EmbeddedServer, client: Client, webhook: Endpoint
) -> None:
    webhook.answers = [(404, {})]
    refused, after = alert(), alert()
    with structlog.testing.capture_logs() as logs:
        async with notify(server):
            name = next(each.name for each in await client.jsm().consumers_info(topology.ALERTS) if "webhook" in each.name)
            before = counted(name.removeprefix("notify-"), "given_up")
            await tell(client, refused, after)
            await until(lambda: webhook.accepted == [after.change_id], "the next one arrived")
            assert counted(name.removeprefix("notify-"), "given_up") == before + 1
    assert notified(logs, "notification.given_up")() == [refused.change_id]
    assert [body["change_id"] for body in webhook.received] == [refused.change_id, after.change_id]


async def test_a_hanging_webhook_holds_up_nobody_and_hears_it_after_a_restart(
    server: EmbeddedServer, client: Client, webhook: Endpoint
) -> None:
    webhook.hang = True
    change = alert()
    with structlog.testing.capture_logs() as logs:
        async with notify(server):
            await tell(client, change)
            await until(lambda: notified(logs)() == [change.change_id], "the log has it", 1)
            await until(lambda: notified(logs, "notification.again")() == [change.change_id], "the webhook timed out")
    webhook.hang = False
    later = alert("resolved")
    await tell(client, later)
    with structlog.testing.capture_logs() as logs:
        async with notify(server):
            await until(lambda: webhook.accepted == [change.change_id, later.change_id], "both, in order", 8)
            await until(lambda: notified(logs)() == [later.change_id], "the log only has what is new")


async def test_an_answer_that_trickles_in_counts_as_none() -> None:
    """Each byte comes in time; all of them would take for ever."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        try:
            while True:
                writer.write(b".")
                await writer.drain()
                await asyncio.sleep(0.05)
        except ConnectionError:
            pass
        finally:
            writer.close()

    endpoint = await asyncio.start_server(drip, "127.0.0.1", 0)
    port = endpoint.sockets[0].getsockname()[1]
    channel = WebhookChannel(f"http://127.0.0.1:{port}/", 0.4)
    async with asyncio.timeout(3):
        assert await channel.deliver(alert()) == Away("TimeoutError")
    await channel.close()
    endpoint.close()
    await endpoint.wait_closed()


async def test_it_goes_on_after_the_server_was_killed(server: EmbeddedServer, client: Client, webhook: Endpoint) -> None:
    before, after = alert(), alert("resolved")
    async with notify(server):
        await tell(client, before)
        await until(lambda: webhook.accepted == [before.change_id], "told")
        await server.kill()
        await server.start()
        await until(lambda: client.is_connected, "reconnected")
        await tell(client, after)
        await until(lambda: webhook.accepted == [before.change_id, after.change_id], "told again", 8)


async def test_what_is_no_alert_is_logged_and_left_behind(server: EmbeddedServer, client: Client) -> None:
    with structlog.testing.capture_logs() as logs:
        async with notify(server):
            await client.jetstream().publish("alerts.acme.critical.slow", b"{")
            change = alert()
            await tell(client, change)
            await until(lambda: notified(logs)() == [change.change_id], "the next one is told")
    assert len([entry for entry in logs if entry["event"] == "notification.unreadable"]) == 1
