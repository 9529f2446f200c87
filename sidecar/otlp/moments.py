"""Nanoseconds since 1970 as the contract's moments."""

from datetime import UTC, datetime
from functools import lru_cache


@lru_cache(maxsize=4096)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def moment(nanoseconds: int) -> str:
    """``2026-01-31T12:00:00.123456Z``. Sixty-four bits of nanoseconds end in the year 2554: there is always a moment."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    micros = rest // 1000
    return f"{_second(seconds)}.{micros:06d}Z" if micros else f"{_second(seconds)}Z"
