"""One dashboard, one nats-server and one Chromium for all browser tests of a module."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, Request, async_playwright

from streams.apply import apply
from streams.connect import connect
from streams.embedded import EmbeddedServer
from tests.dashboard.stage import DashboardProcess, Stage

_CHROMIUM = "/usr/bin/chromium"
_ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
async def module_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedServer]:
    running = EmbeddedServer(tmp_path_factory.mktemp("nats"))
    await running.start()
    client = await connect(running.settings(), "test-setup")
    await apply(client)
    await client.close()
    yield running
    await running.stop()


@pytest.fixture(scope="module")
async def stage(module_server: EmbeddedServer) -> AsyncIterator[Stage]:
    client = await connect(module_server.settings(), "stage")
    made = Stage(client)
    await made.begin()
    yield made
    await made.end()
    await client.close()


@pytest.fixture(scope="module")
async def dashboard(
    module_server: EmbeddedServer, stage: Stage, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[DashboardProcess]:
    log = tmp_path_factory.mktemp("dashboard") / "log"
    # The user the page is given in a real system: what it may not publish, it fails at here.
    running = await DashboardProcess.start(module_server.settings("dashboard"), log)
    await running.listening()
    yield running
    assert await running.stop() < 3
    assert "Traceback" not in log.read_text(), log.read_text()


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    if not Path(_CHROMIUM).exists():
        pytest.skip("no Chromium here")
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=_CHROMIUM, args=_ARGUMENTS)
        yield running
        await running.close()


@asynccontextmanager
async def tab(browser: Browser, url: str, *, forgiving: bool = False, **context: Any) -> AsyncIterator[Page]:
    """An open page on which frames arrive. Any request to elsewhere and any console error fails the test."""
    opened = await browser.new_context(viewport={"width": 1500, "height": 1000}, reduced_motion="reduce", **context)
    page = await opened.new_page()
    bad: list[str] = []

    def spoke(message: ConsoleMessage) -> None:
        if message.type == "error":
            bad.append(f"console: {message.text}")

    def asked(request: Request) -> None:
        if not request.url.startswith((url, url.replace("http", "ws"), "data:", f"blob:{url}")):
            bad.append(f"elsewhere: {request.url}")

    page.on("console", spoke)
    page.on("pageerror", lambda error: bad.append(f"page: {error}"))
    page.on("request", asked)
    try:
        await page.goto(url, wait_until="domcontentloaded")
        await page.locator(".app[data-frames]").wait_for()
        yield page
        if not forgiving:
            assert not bad, bad
    finally:
        await opened.close()


@pytest.fixture
async def page(browser: Browser, dashboard: DashboardProcess) -> AsyncIterator[Page]:
    async with tab(browser, dashboard.url) as opened:
        yield opened
