"""Providers' exports of usage and cost, read and checked: day, model, money, tokens. Pure but for the file.

Which export it is follows from its columns; others than those named here are left aside.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

import polars as pl

EVERY_MODEL: Final = "(all models)"
"""Stands for the model where an export is not parted by model."""
COUNTS: Final = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "web_searches",
)


class StatementError(ValueError):
    """A file is no statement we know, or a value in it is none. The message names row, column and value."""


@dataclass(slots=True)
class Line:
    """What a statement says of one model on one day."""

    cost_usd: Decimal | None = None
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, other: "Line") -> None:
        """Both together."""
        if other.cost_usd is not None:
            self.cost_usd = (self.cost_usd or Decimal(0)) + other.cost_usd
        for name, count in other.counts.items():
            self.counts[name] = self.counts.get(name, 0) + count


@dataclass(frozen=True, slots=True)
class Statement:
    """A whole file."""

    format: str
    provider: str | None
    lines: Mapping[tuple[date, str], Line]
    """By day (UTC) and model as the provider writes it."""
    rows: int


class _Row:
    """One row, whose cells know where they stand."""

    def __init__(self, number: int, cells: Mapping[str, str | None]) -> None:
        self.number = number
        self._cells = cells

    def wrong(self, column: str, why: str) -> StatementError:
        return StatementError(f"row {self.number}, column {column}, value {self._cells.get(column)!r}: {why}")

    def text(self, column: str) -> str:
        return (self._cells.get(column) or "").strip()

    def needed(self, column: str, why: str = "is empty") -> str:
        value = self.text(column)
        if not value:
            raise self.wrong(column, why)
        return value

    def usd(self, column: str) -> Decimal:
        try:
            value = Decimal(self.needed(column).removeprefix("$"))
        except InvalidOperation:
            value = Decimal("NaN")
        if not value.is_finite() or abs(value) >= 10**12:
            raise self.wrong(column, "is no amount of US dollars")
        return value

    def count(self, column: str, default: int | None = None) -> int:
        value = self.text(column)
        if not value and default is not None:
            return default
        whole = value.removesuffix(".0")
        if not whole.isdecimal() or not whole.isascii():
            raise self.wrong(column, "is no count")
        return int(whole)

    def day(self, *columns: str) -> date:
        """The day the first filled column names: a date, RFC 3339 (as UTC where it has no zone), or seconds since 1970."""
        column = next((name for name in columns if self.text(name)), columns[0])
        value = self.needed(column)
        try:
            if value.isdecimal():
                return datetime.fromtimestamp(int(value), UTC).date()
            at = datetime.fromisoformat(value)
        except (ValueError, OverflowError, OSError) as error:
            raise self.wrong(column, "is no day: write 2026-11-20, RFC 3339, or seconds since 1970") from error
        return (at if at.tzinfo is None else at.astimezone(UTC)).date()


Read = Callable[[_Row], tuple[date, str, Line] | None]


def _anthropic_cost(row: _Row) -> tuple[date, str, Line]:
    # Costs that are of no model (web search, code execution) have their kind instead.
    model = row.text("model") or f"({row.text('cost_type') or row.needed('token_type')})"
    return row.day("usage_date_utc"), model, Line(row.usd("cost_usd"))


def _anthropic_usage(row: _Row) -> tuple[date, str, Line]:
    plain, read = row.count("usage_input_tokens_no_cache"), row.count("usage_input_tokens_cache_read")
    short, long = row.count("usage_input_tokens_cache_write_5m"), row.count("usage_input_tokens_cache_write_1h", 0)
    counts = {
        "input_tokens": plain + read + short + long, "output_tokens": row.count("usage_output_tokens"), "cache_read_tokens": read,
        "cache_write_tokens": short + long, "cache_write_1h_tokens": long, "web_searches": row.count("web_search_count", 0),
    }  # fmt: skip
    return row.day("usage_date_utc"), row.needed("model_version"), Line(None, counts)


def _openai_cost(row: _Row) -> tuple[date, str, Line] | None:
    if not row.text("amount_value"):
        # A day without spend is a row without an amount.
        return None
    if row.text("amount_currency").lower() != "usd":
        raise row.wrong("amount_currency", "only usd can be compared")
    # `gpt-4o-2024-08-06, input`: the model, and what of it.
    model = row.text("line_item").rpartition(",")[0].strip() or row.text("line_item") or EVERY_MODEL
    return row.day("start_time_iso", "start_time"), model, Line(row.usd("amount_value"))


def _openai_usage(row: _Row) -> tuple[date, str, Line] | None:
    if not row.text("num_model_requests") and not row.text("input_tokens"):
        return None
    model = row.needed("model", "is empty: export the usage grouped by model")
    counts = {
        "input_tokens": row.count("input_tokens"), "output_tokens": row.count("output_tokens"),
        "cache_read_tokens": row.count("input_cached_tokens", 0),
    }  # fmt: skip
    return row.day("start_time_iso", "start_time"), model, Line(None, counts)


def _plain(row: _Row) -> tuple[date, str, Line]:
    counts = {name: row.count(name) for name in COUNTS if row.text(name)}
    return row.day("day"), row.text("model") or EVERY_MODEL, Line(row.usd("cost_usd"), counts)


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of export: the columns that make it, all of them needed."""

    name: str
    provider: str | None
    columns: tuple[str, ...]
    read: Read


FORMATS: Final = (
    Format("anthropic-cost", "anthropic", ("usage_date_utc", "model", "token_type", "cost_usd"), _anthropic_cost),
    Format(
        "anthropic-usage", "anthropic",
        ("usage_date_utc", "model_version", "usage_input_tokens_no_cache", "usage_input_tokens_cache_write_5m",
         "usage_input_tokens_cache_read", "usage_output_tokens"),
        _anthropic_usage,
    ),
    Format("openai-cost", "openai", ("start_time", "amount_value", "amount_currency"), _openai_cost),
    Format("openai-usage", "openai", ("start_time", "model", "num_model_requests", "input_tokens", "output_tokens"), _openai_usage),
    Format("plain", None, ("day", "cost_usd"), _plain),
)  # fmt: skip
"""Anthropic's console exports cost and usage, OpenAI's platform costs and completions usage; ``plain`` is for all others."""


def _known(columns: list[str]) -> Format:
    for one in FORMATS:
        if set(one.columns) <= set(columns):
            return one
    nearest = max(FORMATS, key=lambda one: len(set(one.columns) & set(columns)) / len(one.columns))
    missing = ", ".join(name for name in nearest.columns if name not in columns)
    known = "; ".join(f"{one.name}: {', '.join(one.columns)}" for one in FORMATS)
    raise StatementError(
        f"its columns are none of a statement we know; nearest is {nearest.name}, which also has {missing}. Known: {known}"
    )


def read(path: Path) -> Statement:
    """The statement in ``path``; raises StatementError, OSError."""
    raw = path.read_bytes()
    if not raw.strip():
        raise StatementError("the file is empty")
    try:
        frame = pl.read_csv(raw, infer_schema=False, truncate_ragged_lines=False)
    except pl.exceptions.PolarsError as error:
        raise StatementError(f"it is no CSV: {str(error).splitlines()[0]}") from error
    frame.columns = [name.strip().removeprefix("\ufeff") for name in frame.columns]
    form = _known(frame.columns)
    lines: dict[tuple[date, str], Line] = {}
    for day, model, line in _lines(frame, form):
        lines.setdefault((day, model), Line()).add(line)
    if any(model == EVERY_MODEL for _, model in lines):
        # Partly or not at all parted by model: only whole days can be compared.
        whole: dict[tuple[date, str], Line] = {}
        for (day, _), line in lines.items():
            whole.setdefault((day, EVERY_MODEL), Line()).add(line)
        lines = whole
    return Statement(form.name, form.provider, lines, frame.height)


def _lines(frame: pl.DataFrame, form: Format) -> Iterator[tuple[date, str, Line]]:
    for number, cells in enumerate(frame.iter_rows(named=True), 2):
        found = form.read(_Row(number, _texts(cells)))
        if found is not None:
            yield found


def _texts(cells: Mapping[str, Any]) -> Mapping[str, str | None]:
    return cells
