"""Budgets on the page: what was set, how it stands, whether doors refuse; and what is said where nobody knows."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from playwright.async_api import Page, expect

from dashboard.model.budgets import SHOWN, BudgetBoard, period_text
from dashboard.model.page import PageModel
from schemas.budgets import BudgetsPage, BudgetStanding, budget_key
from streams import topology
from streams.kv import TypedBucket
from tests.dashboard.stage import Stage
from tests.dashboard.things import NOW_MS, START, definition, flag, standing

KEY = "demo.team-a"


def answer(*standings: BudgetStanding) -> BudgetsPage:
    return BudgetsPage(budgets=standings, as_of=START, ledger_sequence=7)


def shown(board: BudgetBoard) -> dict[str, Any]:
    (row,) = board.told()["rows"]
    assert isinstance(row, dict)
    return row


def test_a_budget_is_shown_with_what_is_spent_of_it() -> None:
    board = BudgetBoard()
    board.define(KEY, definition())
    assert (shown(board)["tone"], shown(board)["standing"]) == ("idle", None)
    board.stand(answer(standing("15.5", limit_at=START + timedelta(hours=2))), NOW_MS)
    row = shown(board)
    assert (row["limit"], row["standing"]["spent"], row["standing"]["percent"], row["tone"]) == ("25", "15.5", 62.0, "warn")
    assert row["standing"]["crossed"] == [{"threshold": 50, "at": NOW_MS - 150 * 60_000}]
    assert row["standing"]["limit_at"] == NOW_MS + 2 * 3_600_000


def test_what_is_told_of_another_limit_is_no_answer() -> None:
    board = BudgetBoard()
    board.define(KEY, definition())
    board.stand(answer(standing("30")), NOW_MS)
    assert shown(board)["tone"] == "bad"
    board.define(KEY, definition(limit_usd=Decimal(100)))
    assert (shown(board)["tone"], shown(board)["standing"]) == ("idle", None)


def test_the_worst_budgets_come_first_and_not_all_are_shown() -> None:
    board = BudgetBoard()
    spent = {f"b{number:02d}": str(number) for number in range(SHOWN + 5)} | {"over": "26"}
    limits = {name: definition(name) for name in spent}
    for name, each in limits.items():
        board.define(budget_key("demo", name), each)
    board.stand(answer(*(standing(spent[name], each) for name, each in limits.items())), NOW_MS)
    told = board.told()
    assert (told["total"], told["over"], len(told["rows"])) == (SHOWN + 6, 1, SHOWN)
    assert [row["id"] for row in told["rows"]][:3] == ["over", "b16", "b15"]


def test_doors_refuse_while_a_flag_stands_and_no_longer_than_until_its_time() -> None:
    board = BudgetBoard()
    board.define(KEY, definition())
    board.flag(KEY, flag())
    assert (shown(board)["tone"], shown(board)["refuses_until"]) == ("bad", NOW_MS + 12 * 3_600_000)
    board.expire(NOW_MS + 12 * 3_600_000)
    assert (shown(board)["tone"], shown(board)["refuses_until"]) == ("idle", None)


def test_silence_leaves_the_last_answer_standing_and_an_answer_that_says_the_same_is_not_shown_again() -> None:
    page = PageModel()
    page.budgets.define(KEY, definition())
    page.budgets.stand(answer(standing("5")), NOW_MS)
    assert page.frame(NOW_MS)["budgets"]["state"] == "answering"
    page.budgets.stand(answer(standing("5")), NOW_MS)
    assert not page.dirty
    page.budgets.silence("no answer within 3 s", NOW_MS)
    told = page.frame(NOW_MS)["budgets"]
    assert (told["state"], told["rows"][0]["standing"]["spent"]) == ("silent", "5")
    page.budgets.silence("no answer within 3 s", NOW_MS + 1)
    assert not page.dirty
    assert page.snapshot(NOW_MS)["budgets"] == told


@pytest.mark.parametrize(
    ("minutes", "text"), [(None, "day Europe/Berlin"), (1440, "rolling 24 h"), (10_080, "rolling 7 d"), (90, "rolling 90 min")]
)
def test_a_period_is_told_as_it_is_set(minutes: int | None, text: str) -> None:
    rolling: dict[str, Any] = {} if minutes is None else {"period": "rolling", "rolling_minutes": minutes}
    assert period_text(definition(**rolling)) == text


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
async def budgets(stage: Stage) -> AsyncIterator[Stage]:
    """None set; the budget processor answers."""
    await stage.forget_budgets()
    await stage.open_budgets()
    yield stage
    await stage.close_budgets()
    await stage.forget_budgets()


@pytest.mark.browser
async def test_without_budgets_the_page_says_how_to_set_one(page: Page, budgets: Stage) -> None:
    assert not budgets.standings
    await expect(page.get_by_test_id("budgets-empty")).to_contain_text("agentops budgets set team-a --tenant demo --limit 25")
    await expect(page.get_by_test_id("budgets-note")).to_have_text("")


@pytest.mark.browser
async def test_a_budget_moves_with_what_is_spent_until_doors_refuse(page: Page, budgets: Stage) -> None:
    shown = page.get_by_test_id("budget-demo-team-a")
    await budgets.budget(standing("5", at=now()))
    await expect(shown.get_by_test_id("spent")).to_have_text("$5.00 of $25.00")
    await expect(shown).to_contain_text("demo · project project-1 · day Europe/Berlin")
    await expect(shown).to_contain_text("$1.25/h · limit will hold · ends in 1")
    await expect(shown.get_by_test_id("enforcement")).to_have_text("doors refuse at the limit")
    await expect(shown.locator(".mark[data-reached=true]")).to_have_count(0)
    await budgets.budget(standing("20.75", at=now(), limit_at=now() + timedelta(hours=3, minutes=25)))
    await expect(shown).to_have_attribute("data-tone", "warn")
    await expect(shown.get_by_role("meter")).to_have_attribute("aria-valuenow", "83")
    await expect(shown).to_contain_text("limit in 3 h 2")
    await expect(shown.locator(".mark[data-reached=true]")).to_have_text(["50 %", "80 %"])
    await budgets.budget(standing("25.1", at=now()))
    await budgets.refuse_by(flag(at=now()))
    await expect(shown).to_have_attribute("data-tone", "bad")
    await expect(shown.get_by_test_id("spent")).to_have_text("$25.10 of $25.00")
    await expect(shown).to_contain_text("limit reached")
    await expect(shown.get_by_test_id("enforcement")).to_contain_text("Doors refuse until")
    await expect(page.get_by_test_id("budgets-note")).to_have_text("1 at the limit")
    await (await TypedBucket.open(budgets.client, topology.BUDGETS, type(definition()))).delete(KEY)
    await expect(shown).to_have_count(0)


@pytest.mark.browser
async def test_a_silent_budget_processor_is_said_and_what_it_told_last_stays(page: Page, budgets: Stage) -> None:
    shown = page.get_by_test_id("budget-demo-team-a")
    await budgets.budget(standing("5", at=now()))
    await expect(shown.get_by_test_id("spent")).to_have_text("$5.00 of $25.00")
    await budgets.close_budgets()
    await expect(page.get_by_test_id("budgets-note")).to_have_text("Budget processor not answering")
    await expect(shown.get_by_test_id("spent")).to_have_text("$5.00 of $25.00")
    await budgets.budget(standing("1", definition("never-told"), at=now()))
    await expect(page.get_by_test_id("budget-demo-never-told")).to_contain_text("What is spent is unknown")
    await budgets.open_budgets()
    await expect(page.get_by_test_id("budget-demo-never-told").get_by_test_id("spent")).to_have_text("$1.00 of $25.00")
    await expect(page.get_by_test_id("budgets-note")).to_have_text("")


@pytest.mark.browser
async def test_why_doors_refuse_is_text_never_markup(page: Page, budgets: Stage) -> None:
    evil = '"><img src=x onerror="document.title=\'owned\'">'
    await budgets.budget(standing("26", at=now()))
    await budgets.refuse_by(flag(at=now(), reason=evil))
    told = page.get_by_test_id("budget-demo-team-a").get_by_test_id("enforcement")
    await expect(told).to_have_attribute("title", evil)
    assert await page.title() == "AgentOps"
    assert await page.locator(".budgets img").count() == 0
