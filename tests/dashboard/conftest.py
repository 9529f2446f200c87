"""One dashboard, one nats-server and one Chromium for all browser tests of a module."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, Request, async_playwright, expect

from streams.apply import apply
from streams.connect import connect
from streams.embedded import EmbeddedServer
from tests.browser import CHROMIUM, LAUNCH, NO_BROWSER, browser_is_missing
from tests.dashboard.stage import STOPS_S, DashboardProcess, Stage

PATIENCE_MS: Final = 30_000
"""How long something may take that is bound to happen: a slow machine is no failure. What must be quick is measured, beside what the machine does."""

expect.set_options(timeout=PATIENCE_MS)


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
    # It lets go of no page that is still under way, however slow this machine is: what it forgets was closed.
    running = await DashboardProcess.start(module_server.settings("dashboard"), log, AGENTOPS_DASHBOARD_UNUSED_S="240")
    await running.listening()
    yield running
    assert await running.stop() < STOPS_S
    assert "Traceback" not in log.read_text(), log.read_text()


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    if browser_is_missing():
        pytest.skip(NO_BROWSER)
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=CHROMIUM, args=LAUNCH)
        yield running
        await running.close()


@dataclass
class Watch:
    """What a tab did that it must not do."""

    url: str
    bad: list[str] = field(default_factory=list)

    def on(self, page: Page) -> None:
        page.on("console", self._spoke)
        page.on("pageerror", lambda error: self.bad.append(f"page: {error}"))
        page.on("request", self._asked)

    def _spoke(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.bad.append(f"console: {message.text}")

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((self.url, self.url.replace("http", "ws"), "data:", f"blob:{self.url}")):
            self.bad.append(f"elsewhere: {request.url}")


@asynccontextmanager
async def tab(browser: Browser, url: str, *, forgiving: bool = False, **context: Any) -> AsyncIterator[Page]:
    """An open page on which frames arrive. Any request to elsewhere and any console error fails the test."""
    opened = await browser.new_context(viewport={"width": 1500, "height": 1000}, reduced_motion="reduce", **context)
    opened.set_default_timeout(2 * PATIENCE_MS)
    page = await opened.new_page()
    watch = Watch(url)
    watch.on(page)
    try:
        await page.goto(url, wait_until="domcontentloaded")
        await page.locator(".app[data-frames]").wait_for()
        yield page
        assert forgiving or not watch.bad, watch.bad
    finally:
        await opened.close()


@pytest.fixture(scope="module")
async def open_tab(browser: Browser, dashboard: DashboardProcess) -> AsyncIterator[Page]:
    async with tab(browser, dashboard.url) as opened:
        yield opened


@pytest.fixture
async def page(open_tab: Page) -> Page:
    """The module's open tab, as a person left it who is done: no toasts, no filter."""
    await open_tab.mouse.move(0, 0)
    await open_tab.locator(".toast").evaluate_all("toasts => toasts.forEach(toast => toast.remove())")
    await open_tab.get_by_test_id("filter-all").click()
    await open_tab.get_by_test_id("fleet-filter").fill("")
    return open_tab
