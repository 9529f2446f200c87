"""Answers as tables and CSV. Pure."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from agent_manager.cli import readable
from agent_manager.cli.output import Column
from schemas.queries import Page

_WIDE = frozenset({"error_message", "sample_message", "summary", "note"})
_NEVER_SHOWN = frozenset(
    {"tenant_id", "event_id", "trace_id", "span_id", "parent_span_id", "depth", "provider", "change_id", "labels", "ended_at"}
)
"""Columns a person rarely reads; ``--all-columns``, ``--json`` and ``--csv`` have them."""


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


def table(page: Page, *, every: bool) -> tuple[list[Column], list[list[str]]]:
    """Columns and cells."""
    names = shown_columns(page, every=every)
    first = {name: next((row[name] for row in page.rows if row.get(name) is not None), None) for name in names}
    columns = [Column(name.upper().replace("_", " "), readable.is_number(name, first[name]), name in _WIDE) for name in names]
    cells = [[readable.cell(name, row.get(name)) for name in names] for row in page.rows]
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
