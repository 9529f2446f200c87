"""What entries cost beside what they would cost otherwise: rows into a frame, sums by day and model. Pure."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Final

import polars as pl

from agent_manager.cli.ledger.rows import Row
from schemas.prices.finding import Unpriced
from schemas.prices.pricing import Priced

USD: Final = pl.Decimal(38, 9)
SCHEMA: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "stream_sequence": pl.Int64, "entry_id": pl.String, "tenant_id": pl.String, "agent_id": pl.String, "day": pl.String,
    "provider": pl.String, "model": pl.String, "before_usd": USD, "after_usd": USD, "why": pl.String,
}  # fmt: skip


class Comparison:
    """Entries with both prices, column by column."""

    def __init__(self) -> None:
        self._columns: dict[str, list[Any]] = {name: [] for name in SCHEMA}

    def add(self, row: Row, found: Priced | Unpriced) -> None:
        """One entry, and what it would cost; what would have no price keeps ``why``."""
        values = {
            "stream_sequence": row["stream_sequence"], "entry_id": row["entry_id"], "tenant_id": row["tenant_id"],
            "agent_id": row["agent_id"], "day": row["occurred_at"].strftime("%Y-%m-%d"), "provider": row["provider"],
            "model": row["model"], "before_usd": row["cost_usd"],
            "after_usd": None if isinstance(found, Unpriced) else found.cost, "why": found.why if isinstance(found, Unpriced) else None,
        }  # fmt: skip
        for name, value in values.items():
            self._columns[name].append(value)

    def frame(self) -> pl.DataFrame:
        """All of them."""
        return pl.DataFrame(self._columns, schema=SCHEMA)


def sums(frame: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """Entries, both costs and the difference by ``by``; what would have no price is counted and left out of the costs."""
    known = pl.col("after_usd").is_not_null()
    told = [
        pl.len().alias("entries"),
        known.not_().sum().alias("unpriced"),
        pl.col("before_usd").filter(known).sum().cast(USD).alias("before_usd"),
        pl.col("after_usd").sum().cast(USD).alias("after_usd"),
    ]
    summed = frame.group_by(list(by)).agg(told).sort(list(by)) if by else frame.select(told)
    return summed.with_columns((pl.col("after_usd") - pl.col("before_usd")).cast(USD).alias("difference_usd"))


def shares(before: Decimal, after: Decimal) -> str:
    """The difference as per cent of what it was."""
    return f"{(after - before) / before * 100:+.1f} %" if before else ""


def whys(frame: pl.DataFrame) -> list[tuple[str, str, str, int]]:
    """Provider, model, reason and number of what would have no price, the most first."""
    found: Iterable[Any] = (
        frame.filter(pl.col("after_usd").is_null())
        .group_by("provider", "model", "why")
        .len()
        .sort("len", descending=True)
        .iter_rows()
    )
    return list(found)
