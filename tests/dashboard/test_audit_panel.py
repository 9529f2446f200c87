"""The page says whether everything is accounted for, when that was looked at, and what to do where it is not."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from playwright.async_api import Browser, expect

from dashboard.model import audit as shown
from streams import subjects
from streams.auditing.accounts import Finding
from streams.auditing.report import AuditReport
from streams.embedded import EmbeddedServer
from tests.dashboard.conftest import tab
from tests.dashboard.stage import DashboardProcess, Stage

ROW = {
    "problem": "rows", "first_sequence": 7, "last_sequence": 7, "subject": "events.demo.step", "expected": 12, "found": 11,
}  # fmt: skip


@pytest.fixture(scope="module")
async def eager(
    module_server: EmbeddedServer, stage: Stage, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[DashboardProcess]:
    """A dashboard that audits every second."""
    log = tmp_path_factory.mktemp("eager") / "log"
    running = await DashboardProcess.start(module_server.settings("dashboard"), log, AGENTOPS_DASHBOARD_AUDIT_EVERY_S="1")
    await running.listening()
    yield running
    await running.stop()
    assert "Traceback" not in log.read_text(), log.read_text()


@pytest.mark.browser
async def test_the_page_shows_the_latest_audit(browser: Browser, eager: DashboardProcess, stage: Stage) -> None:
    for number in range(3):
        await stage.client.jetstream().publish(subjects.events("demo", "step"), f"{number}".encode())
    await stage.client.jetstream().publish(subjects.ledger("demo"), b"0")
    async with tab(browser, eager.url) as page:
        says, findings = page.get_by_test_id("audit-says"), page.get_by_test_id("audit-findings")
        await expect(says).to_have_text("Everything is accounted for")
        await expect(page.get_by_test_id("audit")).to_contain_text("1,284 events, 311 charges: nothing missing, nothing twice")
        await expect(page.get_by_test_id("audit-note")).to_have_text("last hour · just now")
        await expect(page.get_by_test_id("audit-todo")).to_be_hidden()
        stage.problems = [ROW | {"first_sequence": number} for number in (1, 2)]
        await expect(says).to_have_text("2 things do not add up")
        await expect(findings.locator("li").first).to_have_text(
            "message 1 of EVENTS (events.demo.step) has 11 rows in the warehouse, there were 12"
        )
        await expect(page.get_by_test_id("audit-todo")).to_have_text("agentops audit --last 1h tells all of it, and what to do.")
        # What is wrong comes before everything else in its column.
        top = await page.locator(".right > .panel").evaluate_all(
            "panels => panels.sort((a, b) => a.getBoundingClientRect().top - b.getBoundingClientRect().top)[0].ariaLabel"
        )
        assert top == "Audit"
        stage.problems = []
        await expect(says).to_have_text("Everything is accounted for")
        await stage.close_warehouse()
        try:
            await expect(says).to_have_text("Cannot be checked now")
            await expect(page.get_by_test_id("audit-todo")).to_have_text("agentops doctor says which part is not well.")
        finally:
            await stage.open_warehouse()
        await expect(says).to_have_text("Everything is accounted for")


def report(*findings: Finding) -> AuditReport:
    return AuditReport(
        datetime.now(UTC),
        findings,
        {"EVENTS": {"events": 9}, "validate": {"duplicates": 3, "dead": 1}},
        {"a": {"charges": 2}, "b": {"events": 1}},
    )


def test_errors_come_first_and_what_is_just_being_applied_is_not_told() -> None:
    lag, odd = Finding("warning", "EVENTS.lag", "3 wait"), Finding("warning", "EVENTS.unreadable", "odd")
    wrong = [Finding("error", "EVENTS.rows", f"wrong {number}") for number in range(3)]
    assert shown.told(report(lag), 5) == {
        "state": "ok", "at": 5, "errors": 0, "warnings": 0, "findings": [], "more": 0, "events": 9, "entries": 2,
        "duplicates": 3, "dead": 1,
    }  # fmt: skip
    found = shown.told(report(lag, odd, *wrong), 5)
    assert (found["state"], found["errors"], found["warnings"], found["more"]) == ("wrong", 3, 1, 1)
    assert [one["message"] for one in found["findings"]] == ["wrong 0", "wrong 1", "wrong 2"]
