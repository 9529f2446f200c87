"""What a model call must cost, computed by ``genai-prices`` itself: nothing of the product's arithmetic is used here."""

import warnings
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final

import genai_prices

_NANO: Final = Decimal("1e-9")
_TOLERANCE: Final = timedelta(minutes=5)
"""A call from further in the future is priced as of its arrival plus this."""


def moment(event: Mapping[str, Any]) -> datetime:
    """The instant whose prices apply."""
    happened = datetime.fromisoformat(event["occurred_at"])
    return min(happened, datetime.fromisoformat(event["ingest"]["received_at"]) + _TOLERANCE)


def expected(event: Mapping[str, Any]) -> Decimal:
    """US dollars with nine digits for an accepted ``model_call.completed``; 0 where nobody names a price."""
    call, used = event["model_call"], event["resource_usage"]
    usage = genai_prices.Usage(
        input_tokens=used.get("input_tokens", 0), output_tokens=used.get("output_tokens", 0),
        cache_read_tokens=used.get("cache_read_tokens", 0), cache_write_tokens=used.get("cache_write_tokens", 0),
        output_reasoning_tokens=used.get("reasoning_tokens", 0),
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = genai_prices.calc_price(
                usage, call["model"], provider_id=call["provider"], genai_request_timestamp=moment(event)
            )
        except LookupError:
            return Decimal(0).quantize(_NANO)
    total: Decimal = found.total_price
    return total.quantize(_NANO, ROUND_HALF_EVEN)
