"""The dashboard when something is away: NATS, the page's own server, the port, the password."""

import re
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Browser, expect

from schemas.state import Observation
from service.ports import free_port
from streams import topology
from streams.apply import apply
from streams.connect import connect
from streams.embedded import EmbeddedServer
from streams.kv import TypedBucket
from streams.settings import NatsSettings
from tests.dashboard.conftest import tab
from tests.dashboard.stage import STOPS_S, DashboardProcess
from tests.dashboard.things import metrics, observation


def now() -> datetime:
    return datetime.now(UTC)


async def observe(server: EmbeddedServer, value: Observation) -> None:
    client = await connect(server.settings(), "test")
    await apply(client)
    await (await TypedBucket.open(client, topology.OBSERVATIONS, Observation)).put(f"demo.{value.agent_id}", value)
    await client.close()


@pytest.fixture
async def nats_port() -> int:
    return free_port()


@pytest.fixture
async def embedded(tmp_path: Path, nats_port: int) -> AsyncIterator[EmbeddedServer]:
    """Not started yet."""
    made = EmbeddedServer(tmp_path / "nats", port=nats_port)
    yield made
    await made.stop()


@pytest.mark.browser
async def test_nats_away_killed_and_back_is_said_and_survived(embedded: EmbeddedServer, browser: Browser, tmp_path: Path) -> None:
    """One walk: the page opens before NATS is there, goes live when it comes, says so when it is killed, and goes on."""
    await embedded.start()
    settings = embedded.settings()
    await embedded.stop()
    dashboard = await DashboardProcess.start(settings, tmp_path / "log")
    try:
        url = await dashboard.listening()
        async with httpx.AsyncClient(timeout=30) as http:
            assert (await http.get(f"{url}/readyz")).status_code == 503
        async with tab(browser, url) as page:
            await expect(page.get_by_test_id("link")).to_have_text("Connecting")
            await expect(page.get_by_test_id("banner")).to_contain_text("NATS")
            await embedded.start()
            await observe(embedded, observation(at=now()))
            await expect(page.get_by_test_id("link")).to_have_text("Live")
            await expect(page.get_by_test_id("chat-service-health")).to_have_text("HEALTHY")
            await embedded.kill()
            await expect(page.get_by_test_id("link")).to_contain_text("NATS away")
            await expect(page.get_by_test_id("chat-service-latency")).to_have_text("212 ms")
            await embedded.start()
            await expect(page.get_by_test_id("link")).to_have_text("Live")
            await observe(embedded, observation(at=now(), metrics=metrics(latency_ms=901.0)))
            await expect(page.get_by_test_id("chat-service-latency")).to_have_text("901 ms")
    finally:
        assert await dashboard.stop() < STOPS_S


@pytest.mark.browser
async def test_a_tab_finds_the_restarted_dashboard_again(server: EmbeddedServer, browser: Browser, tmp_path: Path) -> None:
    await observe(server, observation(at=now()))
    port = str(free_port())
    first = await DashboardProcess.start(server.settings("dashboard"), tmp_path / "log", "--port", port)
    url = await first.listening()
    async with tab(browser, url, forgiving=True) as page:
        await expect(page.get_by_test_id("card-chat-service")).to_be_visible()
        assert await first.stop() < STOPS_S
        await expect(page.get_by_test_id("link")).to_have_text("Cut off")
        second = await DashboardProcess.start(server.settings("dashboard"), tmp_path / "log", "--port", port)
        await second.listening()
        try:
            await expect(page.get_by_test_id("link")).to_have_text("Live")
            await expect(page.get_by_test_id("card-chat-service")).to_be_visible()
        finally:
            await second.stop()


async def test_a_taken_port_is_said_and_ends_it(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        dashboard = await DashboardProcess.start(NatsSettings(), tmp_path / "log", "--port", port)
        assert await dashboard.ended() == 1
    assert f"cannot listen on 127.0.0.1:{port}" in dashboard.log.read_text()
    assert "Traceback" not in dashboard.log.read_text()


async def test_beyond_loopback_a_password_is_demanded(tmp_path: Path) -> None:
    dashboard = await DashboardProcess.start(NatsSettings(), tmp_path / "log", "--port", "0", "--host", "0.0.0.0")
    assert await dashboard.ended() == 1
    assert "AGENTOPS_DASHBOARD_PASSWORD" in dashboard.log.read_text()


async def test_a_password_guards_page_socket_and_metrics(server: EmbeddedServer, tmp_path: Path) -> None:
    dashboard = await DashboardProcess.start(
        server.settings("dashboard"), tmp_path / "log", AGENTOPS_DASHBOARD_PASSWORD="correct horse"
    )
    try:
        url = await dashboard.listening()
        async with httpx.AsyncClient(base_url=url, timeout=30) as http:
            shut = await http.get("/")
            assert (shut.status_code, shut.headers["location"]) == (303, "/login")
            assert (await http.get("/metrics")).status_code == 401
            key = {
                "Upgrade": "websocket",
                "Connection": "Upgrade",
                "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": "a" * 22 + "==",
            }
            assert (await http.get("/ws", headers={**key, "Origin": url})).status_code == 403
            door = await http.get("/login")
            assert "Password" in door.text
            for address in re.findall(r'(?:src|href)="([^"]+)"', door.text):
                assert (await http.get(address)).status_code == 200
            assert (await http.post("/login", data={"password": "wrong"})).status_code == 401
            opened = await http.post("/login", data={"password": "correct horse"})
            assert opened.status_code == 303
            assert "httponly" in opened.headers["set-cookie"].lower()
            assert (await http.get("/")).status_code == 200
        async with httpx.AsyncClient(base_url=url, cookies={"agentops_dashboard": "9999999999.forged"}, timeout=30) as forger:
            assert (await forger.get("/")).status_code == 303
    finally:
        await dashboard.stop()
