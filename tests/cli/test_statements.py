"""Providers' statements as they export them, read with every wrong value named, and held against the ledger."""

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agent_manager.cli.ledger.drifting import Drift, drifts
from agent_manager.cli.ledger.statements import EVERY_MODEL, FORMATS, StatementError, read
from processors.cost import snapshot
from schemas.prices.finding import PriceBook

FILES = Path(__file__).parent / "statements"
BOOK = PriceBook.of(snapshot.default())
DAY, NEXT = date(2026, 11, 18), date(2026, 11, 19)


def row(model: str, usd: str, day: date = DAY, provider: str = "openai", **counts: int) -> dict[str, Any]:
    """A row of the query ``ledger_days``."""
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_1h_tokens", "web_searches")
    return (
        {"day": day.isoformat(), "provider": provider, "model": model, "cost_usd": usd, "entries": 1}
        | dict.fromkeys(names, 0)
        | counts
    )


def by_model(found: list[Drift]) -> dict[str, Drift]:
    return {one.model: one for one in found}


def test_each_export_is_recognised_by_its_columns_and_summed_by_day_and_model() -> None:
    found = {name: read(FILES / f"{name}.csv") for name in ("anthropic_cost", "anthropic_usage", "openai_cost", "openai_usage")}
    assert [(one.format, one.provider) for one in found.values()] == [
        ("anthropic-cost", "anthropic"), ("anthropic-usage", "anthropic"), ("openai-cost", "openai"), ("openai-usage", "openai"),
    ]  # fmt: skip
    assert {key: line.cost_usd for key, line in found["anthropic_cost"].lines.items()} == {
        (DAY, "Claude Sonnet 4.5"): Decimal("0.45"), (DAY, "(web_search)"): Decimal("0.02"), (NEXT, "Claude Haiku 4.5"): Decimal("0.1"),
    }  # fmt: skip
    assert found["anthropic_usage"].lines[NEXT, "claude-haiku-4-5-20251001"].counts == {
        "input_tokens": 100_000, "output_tokens": 0, "cache_read_tokens": 10_000, "cache_write_tokens": 30_000, "cache_write_1h_tokens": 20_000,
        "web_searches": 0,
    }  # fmt: skip
    assert {key: line.cost_usd for key, line in found["openai_cost"].lines.items()} == {
        (DAY, "gpt-4o-2024-08-06"): Decimal("0.35"), (DAY, "gpt-4o-mini-2024-07-18"): Decimal("0.00383598"),
    }  # fmt: skip
    assert found["openai_usage"].lines[DAY, "gpt-4o-2024-08-06"].counts == {
        "input_tokens": 100_000,
        "output_tokens": 10_000,
        "cache_read_tokens": 0,
    }


def test_a_model_is_the_same_by_its_name_on_the_bill_by_its_dated_name_and_by_its_id() -> None:
    found = by_model(
        drifts(
            read(FILES / "anthropic_cost.csv"),
            "anthropic",
            [row("claude-sonnet-4-5-20250929", "0.45", provider="anthropic")],
            BOOK,
        )
    )
    assert found["claude-sonnet-4-5"].usd() == 0
    assert not found["claude-sonnet-4-5"].apart(Decimal(0))
    assert found["claude-haiku-4-5"].usd() == Decimal("-0.1")
    assert found["claude-haiku-4-5"].apart(Decimal(0))


def test_money_drifts_exactly_and_the_tolerance_is_a_share_of_the_statement() -> None:
    statement = read(FILES / "openai_cost.csv")
    rows = [
        row("gpt-4o", "0.34"),
        row("gpt-4o-2024-08-06", "0.013"),
        row("gpt-4o-mini", "0.003835980"),
        row("gpt-4o", "9", NEXT),
        row("claude", "5", provider="anthropic"),
    ]
    found = by_model(drifts(statement, "openai", rows, BOOK))
    assert set(found) == {"gpt-4o", "gpt-4o-mini"}
    assert found["gpt-4o"].usd() == Decimal("0.003")
    assert [found["gpt-4o"].apart(Decimal(tolerance)) for tolerance in ("0", "0.85", "0.86")] == [True, True, False]
    assert not found["gpt-4o-mini"].apart(Decimal(0))


def test_what_only_one_side_has_is_a_drift() -> None:
    found = by_model(drifts(read(FILES / "openai_cost.csv"), "openai", [row("o3", "1.5")], BOOK))
    assert (found["o3"].statement, found["o3"].usd(), found["o3"].apart(Decimal(50))) == (None, Decimal("1.5"), True)
    assert found["gpt-4o"].ledger is None
    assert found["gpt-4o"].apart(Decimal(50))


def test_exports_of_usage_are_compared_by_what_they_count() -> None:
    rows = [row("gpt-4o", "0.35", input_tokens=100_000, output_tokens=10_500, web_searches=7)]
    (one,) = drifts(read(FILES / "openai_usage.csv"), "openai", rows, BOOK)
    assert one.counts() == {"input_tokens": 0, "output_tokens": 500, "cache_read_tokens": 0}
    assert one.usd() is None
    assert [one.apart(Decimal(tolerance)) for tolerance in (0, 4, 5)] == [True, True, False]


def test_a_statement_without_models_is_compared_by_whole_days(tmp_path: Path) -> None:
    file = tmp_path / "plain.csv"
    file.write_text("day,cost_usd\n2026-11-18,1.25\n2026-11-19T23:30:00-02:00,2\n")
    statement = read(file)
    assert {key: line.cost_usd for key, line in statement.lines.items()} == {
        (DAY, EVERY_MODEL): Decimal("1.25"),
        (date(2026, 11, 20), EVERY_MODEL): Decimal(2),
    }
    found = drifts(statement, "openai", [row("gpt-4o", "1"), row("o3", "0.25")], BOOK)
    assert [one.usd() for one in found] == [0, -2]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty"),
        ("a,b\n1,2\n", "none of a statement we know"),
        ("usage_date_utc,model,cost_usd\n2026-11-18,x,1\n", "nearest is anthropic-cost, which also has token_type"),
        ("day,cost_usd\n2026-11-18,much\n", "row 2, column cost_usd, value 'much': is no amount of US dollars"),
        ("day,cost_usd\n2026-11-18,1\n18.11.2026,1\n", "row 3, column day, value '18.11.2026': is no day"),
        ("day,cost_usd\n2026-11-18,\n", "row 2, column cost_usd, value None: is empty"),
        ("day,cost_usd\n2026-11-18,NaN\n", "is no amount"),
        ("day,cost_usd\n2026-11-18,1e99\n", "is no amount"),
        ("day,cost_usd,input_tokens\n2026-11-18,1,-5\n", "row 2, column input_tokens, value '-5': is no count"),
        ("start_time,amount_value,amount_currency\n1794960000,1,eur\n", "row 2, column amount_currency, value 'eur': only usd"),
        ("start_time,model,num_model_requests,input_tokens,output_tokens\n1794960000,,1,2,3\n", "column model, value None: is empty: export the usage grouped by model"),
        ("day,cost_usd\n2026-11-18,1,2,3\n", "it is no CSV"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named_by_row_column_and_value(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "statement.csv"
    file.write_text(text)
    with pytest.raises(StatementError) as caught:
        read(file)
    assert said in str(caught.value)


def test_every_format_is_documented_with_its_columns() -> None:
    text = (Path(__file__).parents[2] / "docs" / "money.md").read_text()
    for one in FORMATS:
        assert all(f"`{column}`" in text for column in one.columns), one.name
