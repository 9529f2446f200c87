"""Answers as tables and CSV. Pure."""

import csv
import io
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from agent_manager.cli import readable
from agent_manager.cli.fitting import Column
from schemas.queries import Page

_WIDE = frozenset({"message", "error_message", "sample_message", "summary", "note"})
_NEVER_SHOWN = frozenset(
    {"tenant_id", "event_id", "trace_id", "span_id", "parent_span_id", "depth", "provider", "change_id", "labels", "ended_at"}
)
"""Columns a person rarely reads; ``--all-columns``, ``--json`` and ``--csv`` have them."""


_RANKS = {
    "version": 8, "after_sequence": 9, "workflow_id": 6, "first_at": 7, "steps": 6, "tool_calls": 5, "model_calls": 5,
    "cache_read_tokens": 7, "cache_write_tokens": 7, "input_tokens": 4, "output_tokens": 4, "entries": 3, "unpriced": 2,
    "sample_run_id": 6, "run_id": 5, "name": 3, "count": 2, "duration_ms": 2, "latency_ms": 2, "started_at": 3, "last_seen": 3,
    "tokens_24h": 5, "latency_p50_ms": 4, "latency_p95_ms": 2, "last_at": 3, "severity": 4, "rule": 3, "alert_id": 7, "metric": 8,
    "p50_ms": 2, "p99_ms": 2, "max_ms": 4, "mean_ms": 4,
}  # fmt: skip
"""What is left out first where the width does not do."""
_ALWAYS = frozenset({
    "agent_id", "kind", "level", "message", "status", "error_type", "error_message", "sample_message", "cost_usd", "at", "value", "model", "day",
    "hour", "stream", "state", "summary", "tenant_id", "occurred_at", "p95_ms", "runs_24h", "failures_24h", "cost_usd_24h", "entry_id",
})  # fmt: skip
_OTHERS = 8


def _rank(query: str, name: str) -> int:
    if query == "runs" and name == "run_id":
        # What one asks for next.
        return 0
    if query == "failures" and name in {"kind", "count"}:
        # They tell rows apart.
        return 0 if name == "kind" else 1
    if query == "ledger" and name in {"entry_id", "kind"}:
        return 1
    return 0 if name in _ALWAYS else _RANKS.get(name, _OTHERS)


def _title(name: str) -> str:
    """Without the unit: cells carry theirs."""
    return name.upper().replace("_", " ").removesuffix(" MS").replace(" USD", "")


def shown_columns(page: Page, *, every: bool) -> list[str]:
    """The columns worth the width: without ids for programs and without those empty in every row."""
    columns = list(page.columns) or list(dict.fromkeys(name for row in page.rows for name in row))
    if every:
        return columns
    several_tenants = len({row.get("tenant_id") for row in page.rows}) > 1
    kept = [name for name in columns if name not in _NEVER_SHOWN or (name == "tenant_id" and several_tenants)]
    filled = [
        name for name in kept if any(row.get(name) not in {None, ""} if _plain(row.get(name)) else True for row in page.rows)
    ]
    return filled or columns


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def table(page: Page, now: datetime, *, every: bool) -> tuple[list[Column], list[list[str]]]:
    """Columns and cells; moments are short, ``every`` shows all columns and whole moments."""
    names = shown_columns(page, every=every)
    first = {name: next((row[name] for row in page.rows if row.get(name) is not None), None) for name in names}
    columns = [
        Column(
            _title(name),
            readable.is_number(name, first[name]),
            name in _WIDE,
            0 if every else _rank(page.query, name),
        )
        for name in names
    ]
    cells = [[readable.cell(name, row.get(name), None if every else now) for name in names] for row in page.rows]
    if page.query == "run":
        _indent(names, page.rows, cells)
    return columns, cells


def _indent(names: Sequence[str], rows: Sequence[dict[str, Any]], cells: list[list[str]]) -> None:
    """Spans below their parents."""
    if "kind" not in names:
        return
    at = names.index("kind")
    for row, line in zip(rows, cells, strict=True):
        line[at] = "  " * int(row.get("depth") or 0) + line[at]


def as_csv(page: Page) -> str:
    """Every column, raw values, a header line."""
    names = list(page.columns) or list(dict.fromkeys(name for row in page.rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(page.rows)
    return text.getvalue()
