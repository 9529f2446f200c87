"""The range and the buckets of a time series nobody gave them for: a screenful. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from schemas.queries import Page

_RANGE: Final[Mapping[str, timedelta]] = {
    "second": timedelta(seconds=90), "minute": timedelta(hours=1), "hour": timedelta(days=2), "day": timedelta(days=30),
}  # fmt: skip
"""How far back each bucket looks."""
_UP_TO: Final[Sequence[tuple[timedelta, str]]] = (
    (timedelta(seconds=95), "second"), (timedelta(minutes=95), "minute"), (timedelta(hours=95), "hour"),
)  # fmt: skip
"""The bucket that cuts a range into less than a hundred; longer ranges are told by the day."""
DEFAULT: Final = "minute"


def completed(asked: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """``asked`` of ``timeseries`` with a bucket that suits its range, and a range that suits its bucket."""
    until = datetime.fromisoformat(asked["until"]) if "until" in asked else now
    if "since" in asked:
        length = until - datetime.fromisoformat(asked["since"])
        return {"bucket": next((bucket for most, bucket in _UP_TO if length <= most), "day"), **asked}
    bucket = asked.get("bucket", DEFAULT)
    return {**asked, "bucket": bucket, "since": (until - _RANGE[bucket]).isoformat()}


def _nothing(row: Mapping[str, Any]) -> bool:
    return not row.get("count") and float(row.get("value") or 0) == 0


def trimmed(page: Page) -> Page:
    """Without the empty buckets before the first and after the last that holds something."""
    held = [place for place, row in enumerate(page.rows) if not _nothing(row)]
    rows = page.rows[held[0] : held[-1] + 1] if held else ()
    return page.model_copy(update={"rows": rows})
