"""The walk of the README, in a real browser against the running system."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Page, async_playwright, expect

from streams.connect import connect
from tests.browser import CHROMIUM, LAUNCH, needs_chromium
from tests.conftest import until
from tests.system.running import ROOT, Running, clean_environment

pytestmark = [pytest.mark.system, pytest.mark.browser, needs_chromium]

CHAT, SUMMARY = "chat-service", "summary-service"


@pytest.fixture(scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """The whole system with its demo agents."""
    made = Running(tmp_path_factory.mktemp("walk") / "data")
    await made.start()
    yield made
    await made.stop()


@pytest.fixture(scope="module")
async def page(running: Running) -> AsyncIterator[Page]:
    """The dashboard in a browser."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=LAUNCH)
        opened = await browser.new_page(viewport={"width": 1500, "height": 1000})
        await opened.goto(running.up["dashboard_url"])
        yield opened
        await browser.close()


@pytest.fixture(scope="module")
async def alerts(running: Running) -> AsyncIterator[list[dict[str, Any]]]:
    """What a foreign service hears on ``alerts.>``."""
    heard: list[dict[str, Any]] = []
    client = await connect(running.nats(), "foreign-service")

    async def hear(message: Any) -> None:
        heard.append(json.loads(message.data))

    await client.subscribe("alerts.>", cb=hear)
    yield heard
    await client.close()


def shown(page: Page, name: str) -> Any:
    return page.get_by_test_id(name)


async def latency_ms(page: Page, agent: str) -> float:
    """The latency on the card; 0 while it shows none."""
    text = await shown(page, f"{agent}-latency").inner_text()
    digits = "".join(part for part in text if part.isdigit() or part == ".")
    return float(digits or 0)


async def ask(url: str) -> tuple[float, int]:
    """How long a real request to the chat agent took, and its status."""
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
        began = time.perf_counter()
        answer = await http.post(f"{url}/chat", json={"message": "What is a dead letter?"})
        return time.perf_counter() - began, answer.status_code


async def test_both_agents_are_healthy_within_fifteen_seconds(page: Page) -> None:
    for agent in (CHAT, SUMMARY):
        await expect(shown(page, f"{agent}-health")).to_contain_text("HEALTHY", timeout=15_000)
        await expect(shown(page, f"{agent}-health")).not_to_contain_text("UNHEALTHY")


async def test_injected_latency_is_real_and_ends_when_cleared(page: Page, running: Running) -> None:
    url = (await running.agents())[CHAT]["proxy_url"]
    await shown(page, f"{CHAT}-inject-latency").click()

    async def slow() -> bool:
        return (await ask(url))[0] >= 2.5

    await until(slow, "requests through the sidecar take 2.5 s", 15)

    async def high() -> bool:
        return await latency_ms(page, CHAT) > 2000

    await until(high, "the card's latency passes 2,000 ms", 15)
    await shown(page, f"{CHAT}-clear").click()

    async def quick() -> bool:
        return (await ask(url))[0] < 2.5

    async def low() -> bool:
        return 0 < await latency_ms(page, CHAT) < 2000

    await until(quick, "requests are quick again", 15)
    await until(low, "the card's latency is back to normal", 30)
    await expect(shown(page, f"{CHAT}-health")).not_to_contain_text("UNHEALTHY")


async def test_an_injected_error_is_alerted_and_heals_by_itself(
    page: Page, running: Running, alerts: list[dict[str, Any]]
) -> None:
    await shown(page, f"{CHAT}-inject-error").click()
    await expect(shown(page, f"{CHAT}-health")).to_contain_text("UNHEALTHY", timeout=30_000)
    await expect(shown(page, f"alert-agent_unhealthy-{CHAT}").first).to_be_visible(timeout=10_000)
    await until(
        lambda: any(a["rule"] == "agent_unhealthy" and a["agent_id"] == CHAT and a["state"] == "firing" for a in alerts),
        "the alert on alerts.>",
    )
    await healed(page, running, CHAT)
    await until(
        lambda: any(a["rule"] == "agent_unhealthy" and a["agent_id"] == CHAT and a["state"] == "resolved" for a in alerts),
        "the alert resolved",
        20,
    )
    assert (await ask((await running.agents())[CHAT]["proxy_url"]))[1] == httpx.codes.OK


async def healed(page: Page, running: Running, agent: str, within_s: float = 60) -> None:
    """Waits until the agent is HEALTHY again, on the page and in the command line."""

    async def well() -> bool:
        return await running.healthy(agent) and "UNHEALTHY" not in await shown(page, f"{agent}-health").inner_text()

    await until(well, f"{agent} is HEALTHY again", within_s)
    await expect(shown(page, f"{agent}-health")).to_contain_text("HEALTHY")


async def test_with_healing_off_the_recover_button_does_it(page: Page, running: Running) -> None:
    await running.cli("agents", "healing", SUMMARY, "off")
    await running.cli("faults", "inject", SUMMARY, "error", "--rate", "1", "--duration", "5m")
    await expect(shown(page, f"{SUMMARY}-health")).to_contain_text("UNHEALTHY", timeout=40_000)
    assert (await running.agents())[SUMMARY]["health"] == "UNHEALTHY"
    await shown(page, f"{SUMMARY}-recover").click()
    await healed(page, running, SUMMARY)
    assert json.loads(await running.cli("faults", "list", "--json")) == []
    await running.cli("agents", "healing", SUMMARY, "on")


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hung"])
async def test_a_killed_or_hung_agent_is_detected_alerted_and_restarted(
    page: Page, running: Running, alerts: list[dict[str, Any]], blow: signal.Signals
) -> None:
    before = (await running.agents())[CHAT]
    del alerts[:]
    os.kill(before["pid"], blow)
    await until(
        lambda: any(a["agent_id"] == CHAT and a["rule"] == "agent_unhealthy" and a["state"] == "firing" for a in alerts),
        "the alert",
        30,
    )

    async def another() -> bool:
        row = (await running.agents())[CHAT]
        return bool(row["pid"] and row["pid"] != before["pid"])

    await until(another, "another process", 30)
    await healed(page, running, CHAT)
    for figure in ("ttd", "ttr"):
        await expect(shown(page, f"{CHAT}-{figure}")).to_contain_text("s", timeout=10_000)


async def test_agents_are_stopped_started_and_restarted_from_both_places(page: Page, running: Running) -> None:
    await running.cli("agents", "stop", SUMMARY)

    async def stopped() -> bool:
        return bool((await running.agents())[SUMMARY]["status"] == "stopped")

    await until(stopped, "stopped", 15)
    await expect(shown(page, f"card-{SUMMARY}")).to_contain_text("stopped", timeout=10_000, ignore_case=True)
    await shown(page, f"{SUMMARY}-start").click()
    await healed(page, running, SUMMARY)
    before = (await running.agents())[SUMMARY]["pid"]
    await running.cli("agents", "restart", SUMMARY)

    async def renewed() -> bool:
        return (await running.agents())[SUMMARY]["pid"] not in {None, before}

    await until(renewed, "a new process", 20)
    await healed(page, running, SUMMARY)


async def test_a_foreign_program_publishes_and_its_run_is_found(running: Running, tmp_path: Path) -> None:
    nats = running.nats()
    assert nats.password is not None
    environment = clean_environment() | {
        "NATS_URL": nats.url,
        "NATS_USER": nats.user or "",
        "NATS_PASSWORD": nats.password.get_secret_value(),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(ROOT / "examples" / "publish_events.py"), env=environment, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    run_id = out.decode().split()[-1]

    async def found(agent: str, wanted: str) -> bool:
        rows = json.loads(await running.cli("query", "runs", "--agent", agent, "--json"))
        return wanted in [row["run_id"] for row in (rows["rows"] if isinstance(rows, dict) else rows)]

    await until(lambda: found("my-agent", run_id), "the run in `agentops query runs`", 10)
    from tests.events import event

    lines = [
        event("run.started", tenant="demo", agent="file-agent", run="from-a-file"),
        event("run.completed", tenant="demo", agent="file-agent", run="from-a-file"),
    ]
    file = tmp_path / "events.ndjson"
    file.write_text("\n".join(json.dumps(line) for line in lines))
    await running.cli("events", "publish", str(file))
    await until(lambda: found("file-agent", "from-a-file"), "the file's run", 10)


async def test_the_books_agree_and_the_doctor_finds_nothing(running: Running) -> None:
    await running.cli("audit")
    await running.cli("doctor")


async def test_ctrl_c_leaves_nothing_behind_and_the_next_start_goes_on(running: Running) -> None:
    def runs(text: str) -> set[str]:
        rows = json.loads(text)
        return {row["run_id"] for row in (rows["rows"] if isinstance(rows, dict) else rows)}

    before = runs(await running.cli("query", "runs", "--limit", "20", "--json"))
    assert before
    await running.interrupt(within_s=10)
    await running.start()

    async def same() -> bool:
        text = await running.cli("query", "runs", "--limit", "2000", "--json", expect=None)
        return text.startswith(("[", "{")) and before <= runs(text)

    await until(same, "history is intact", 20)
    for agent in (CHAT, SUMMARY):
        await until(lambda agent=agent: running.healthy(agent), f"{agent} is HEALTHY after the restart", 30)
