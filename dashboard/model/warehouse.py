"""What the warehouse answered, as the page shows it: throughput, failures, spend, latency by model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from dashboard.model.moments import told_milliseconds
from dashboard.model.traffic import KEPT_S

Row = Mapping[str, Any]

SHOWN_FAILURES: Final = 30
SHOWN_SPENDERS: Final = 8
SETTLING_S: Final = 2
"""The newest seconds are still filling up and would look like a fall."""

SMOOTHED_S: Final = 10
"""Few events come in bursts; single seconds of them would be a fence, not a line. As long as the sidecars' own windows."""


def money(value: Any) -> Decimal:
    """A decimal string of a row; 0 for what is none."""
    try:
        found = Decimal(str(value))
    except InvalidOperation:
        return Decimal(0)
    return found if found.is_finite() else Decimal(0)


def number(value: Any) -> float:
    """A number of a row; 0 for what is none."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0


def events_per_second(rows: Sequence[Row]) -> float | None:
    """The total of the ``throughput`` query."""
    for row in rows:
        if row.get("kind") == "total":
            return number(row.get("events_per_s"))
    return sum(number(row.get("events_per_s")) for row in rows) if rows else None


def per_second(rows: Sequence[Row], until_ms: int) -> list[tuple[int, float]]:
    """A ``timeseries`` by second as a line of means over ``SMOOTHED_S``; a second without a row had nothing in it."""
    last = until_ms // 1000 - SETTLING_S
    found = {at // 1000: number(row.get("value")) for row in rows if (at := told_milliseconds(row.get("at"))) is not None}
    first = last - KEPT_S + 1
    window = sum(found.get(second, 0.0) for second in range(first - SMOOTHED_S, first))
    line = []
    for second in range(first, last + 1):
        window += found.get(second, 0.0) - found.get(second - SMOOTHED_S, 0.0)
        line.append((second * 1000, round(window / SMOOTHED_S, 2)))
    return line


@dataclass(frozen=True, slots=True)
class Usage:
    """The fleet's last 24 hours."""

    runs: int
    failures: int
    tokens: int
    cost_usd: Decimal


def usage(rows: Sequence[Row]) -> Usage:
    """The sums of the ``fleet`` query."""
    return Usage(
        runs=round(sum(number(row.get("runs_24h")) for row in rows)),
        failures=round(sum(number(row.get("failures_24h")) for row in rows)),
        tokens=round(sum(number(row.get("tokens_24h")) for row in rows)),
        cost_usd=sum((money(row.get("cost_usd_24h")) for row in rows), Decimal(0)),
    )


def failures(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The ``failures`` query, newest first."""
    return [
        {
            "at": told_milliseconds(row.get("occurred_at")),
            "agent": row.get("agent_id"),
            "tenant": row.get("tenant_id"),
            "kind": row.get("kind"),
            "name": row.get("name"),
            "type": row.get("error_type"),
            "message": row.get("error_message"),
            "run": row.get("run_id"),
            "count": round(number(row.get("count"))) or 1,
        }
        for row in rows[:SHOWN_FAILURES]
    ]


def _spender(row: Row, by: str) -> dict[str, Any]:
    return {
        "label": str(row.get(by) if row.get(by) is not None else "—"),
        "cost": format(money(row.get("cost_usd")), "f"),
        "tokens": round(number(row.get("input_tokens")) + number(row.get("output_tokens"))),
        "calls": round(number(row.get("entries"))),
        "unpriced": round(number(row.get("unpriced"))),
    }


def spend(rows: Sequence[Row], by: str) -> list[dict[str, Any]]:
    """The ``spend`` query by one column: by day in order of time, else the biggest first and the rest in one."""
    if by == "day":
        return [_spender(row, by) for row in sorted(rows, key=lambda row: str(row.get(by)))]
    ordered = sorted(rows, key=lambda row: money(row.get("cost_usd")), reverse=True)
    shown = [_spender(row, by) for row in ordered[:SHOWN_SPENDERS]]
    rest = ordered[SHOWN_SPENDERS:]
    if rest:
        total: dict[str, Any] = {
            name: sum(number(row.get(name)) for row in rest) for name in ("input_tokens", "output_tokens", "entries", "unpriced")
        }
        total["cost_usd"] = sum((money(row.get("cost_usd")) for row in rest), Decimal(0))
        total[by] = f"{len(rest)} more"
        shown.append(_spender(total, by))
    return shown


def model_latency(rows: Sequence[Row]) -> dict[str, float]:
    """p95 by model of the ``latency`` query."""
    return {str(row["model"]): number(row.get("p95_ms")) for row in rows if row.get("model") is not None}
