"""Between the page and its websocket much may happen: the page takes long to arrive, or never opens one."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Browser, Route, expect

from streams.embedded import EmbeddedServer
from tests.conftest import until
from tests.dashboard.conftest import PATIENCE_MS, Watch
from tests.dashboard.stage import DashboardProcess, log_lines

UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "a" * 22 + "==",
}  # fmt: skip

KEEPS_WHAT_IS_SAID = """
new MutationObserver(() => {
  const text = document.querySelector("#boot p")?.textContent
  const said = JSON.parse(sessionStorage.getItem("said") || "[]")
  if (text && said.at(-1) !== text) sessionStorage.setItem("said", JSON.stringify([...said, text]))
}).observe(document, {subtree: true, childList: true, characterData: true})
"""


async def _impatient(server: EmbeddedServer, log: Path, unused_s: float) -> DashboardProcess:
    running = await DashboardProcess.start(server.settings("dashboard"), log, AGENTOPS_DASHBOARD_UNUSED_S=str(unused_s))
    await running.listening()
    return running


@pytest.fixture
async def forgetful(server: EmbeddedServer, tmp_path: Path) -> AsyncIterator[DashboardProcess]:
    """A dashboard that lets go of what is not opened at once."""
    running = await _impatient(server, tmp_path / "log", 0.1)
    yield running
    await running.stop()
    assert "Traceback" not in running.log.read_text(), running.log.read_text()


@pytest.fixture
async def impatient(server: EmbeddedServer, tmp_path: Path) -> AsyncIterator[DashboardProcess]:
    """A dashboard that waits a few seconds, which is enough for a page that comes out of the browser's cache."""
    running = await _impatient(server, tmp_path / "log", 6)
    yield running
    await running.stop()
    assert "Traceback" not in running.log.read_text(), running.log.read_text()


async def _without_documents(dashboard: DashboardProcess) -> bool:
    return await dashboard.documents() == 0


async def _knock(dashboard: DashboardProcess, *protocols: str) -> int:
    async with httpx.AsyncClient(timeout=30) as http:
        headers = {**UPGRADE, "Origin": dashboard.url}
        if protocols:
            headers["Sec-WebSocket-Protocol"] = ", ".join(protocols)
        return (await http.get(f"{dashboard.url}/ws", headers=headers)).status_code


def _token(page: str) -> str:
    found = re.search(r'"token":"([^"]+)"', page)
    assert found is not None, page[-3000:]
    return found[1]


def _refused(dashboard: DashboardProcess) -> list[str]:
    return [line["reason"] for line in log_lines(dashboard.log) if line["event"] == "tab.refused"]


async def test_visitors_without_a_tab_are_forgotten_and_so_is_their_websocket(forgetful: DashboardProcess) -> None:
    """A websocket that comes too late is refused, and builds nothing: the page it is for could not be drawn any more."""
    async with httpx.AsyncClient(timeout=30) as http:
        pages = await asyncio.gather(*(http.get(forgetful.url) for _ in range(4)))
    assert [page.headers["cache-control"] for page in pages] == ["no-store"] * 4
    await until(lambda: _without_documents(forgetful), "no visitor's document is left", 25)
    assert await _knock(forgetful, "bokeh", _token(pages[0].text)) == 403
    assert await forgetful.documents() == 0
    assert _refused(forgetful) == ["a session forgotten since"]


async def test_a_websocket_with_no_token_of_ours_is_refused_without_ado(forgetful: DashboardProcess) -> None:
    async with httpx.AsyncClient(timeout=30) as http:
        token = _token((await http.get(forgetful.url)).text)
    for protocols in ((), ("bokeh",), ("bokeh", "x"), ("bokeh", "e30.e30"), ("bokeh", token[:-1]), ("other", token)):
        assert await _knock(forgetful, *protocols) == 403
    assert len(_refused(forgetful)) == 6


@pytest.mark.browser
async def test_a_page_that_was_long_under_way_says_so_and_opens_anew(browser: Browser, impatient: DashboardProcess) -> None:
    """Its scripts are held back until the dashboard has let go of it, as on a slow line."""
    opened = await browser.new_context()
    opened.set_default_timeout(2 * PATIENCE_MS)
    page = await opened.new_page()
    watch = Watch(impatient.url)
    watch.on(page)
    await page.add_init_script(KEEPS_WHAT_IS_SAID)
    held: list[str] = []
    forgotten = asyncio.Event()

    async def hold(route: Route) -> None:
        held.append(route.request.url)
        await forgotten.wait()
        await route.continue_()

    await page.route("**/static/js/bokeh.min.js*", hold, times=1)
    try:
        await page.goto(impatient.url, wait_until="commit")
        # It is seen before its megabytes are here.
        await expect(page.get_by_test_id("boot")).to_be_visible()
        await until(lambda: bool(held), "a script is on its way", 30)
        await until(lambda: _without_documents(impatient), "the dashboard has let go of the page", 30)
        await expect(page.get_by_test_id("boot")).to_contain_text("The first visit has much to fetch")
        forgotten.set()
        await page.locator(".app[data-frames]").wait_for()
        said = await page.evaluate("JSON.parse(sessionStorage.getItem('said'))")
        assert any("The dashboard no longer knows this page. Opening it anew" in text for text in said), said
        # Opened: the next time, whenever that is, begins with a short pause again.
        await page.wait_for_function("sessionStorage.getItem('agentops-boot') === null")
        assert "a session forgotten since" in _refused(impatient)
        unavoidable = ("WebSocket connection to", "[bokeh", "Error rendering Bokeh items")
        assert all(bad.removeprefix("console: ").startswith(unavoidable) for bad in watch.bad), watch.bad
    finally:
        await opened.close()


@pytest.mark.browser
async def test_a_page_of_which_a_part_is_lost_waits_longer_from_time_to_time(
    browser: Browser, impatient: DashboardProcess
) -> None:
    """Never a storm of reloads, however long it goes on; and it opens when it can."""
    opened = await browser.new_context()
    opened.set_default_timeout(2 * PATIENCE_MS)
    page = await opened.new_page()
    await page.add_init_script(KEEPS_WHAT_IS_SAID)
    await page.route("**/static/js/bokeh.min.js*", lambda route: route.abort(), times=2)
    try:
        await page.goto(impatient.url, wait_until="commit")
        await page.locator(".app[data-frames]").wait_for()
        said = await page.evaluate("JSON.parse(sessionStorage.getItem('said'))")
        assert "Part of the page did not arrive. Opening it anew in 1 s…" in said, said
        assert "Part of the page did not arrive. Opening it anew in 5 s…" in said, said
    finally:
        await opened.close()
