"""A ledger entry as the warehouse's row has it, and what it costs by a book. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from schemas.ledger import UnitPrices
from schemas.prices.finding import PriceBook, Unpriced
from schemas.prices.pricing import Priced, price
from schemas.prices.units import FIELDS, Tokens, rarities

Row = Mapping[str, Any]

UNIT_PRICE: Final = "unit_price_"
_RARE: Final = tuple(FIELDS.values())


def tokens(row: Row) -> Tokens:
    """Its token split."""
    rare = None if all(row[name] is None for name in _RARE) else rarities(row)
    return Tokens(
        row["input_tokens"] or 0, row["output_tokens"] or 0, row["cache_read_tokens"] or 0, row["cache_write_tokens"] or 0,
        row["reasoning_tokens"] or 0, rare,
    )  # fmt: skip


def moment(row: Row) -> datetime:
    """The moment whose price applies."""
    at: datetime = row["priced_at"] or row["occurred_at"]
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def unit_prices(row: Row) -> dict[str, Decimal]:
    """The prices it was charged by; none where it is unpriced."""
    return {name: Decimal(text) for name in UnitPrices.model_fields if (text := row[f"{UNIT_PRICE}{name}"]) is not None}


def priced(row: Row, book: PriceBook, *, provider: str | None = None, model: str | None = None) -> Priced | Unpriced:
    """What it costs by ``book``, or would as a call of another model."""
    return price(
        book, provider=provider or row["provider"], model=model or row["model"], service_tier=row["service_tier"],
        tenant=row["tenant_id"], moment=moment(row), tokens=tokens(row),
    )  # fmt: skip
